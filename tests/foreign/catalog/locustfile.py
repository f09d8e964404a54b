import random

from locust import FastHttpUser, task


class Reader(FastHttpUser):
    @task(3)
    def look(self):
        self.client.get(f"/books/{random.randrange(1000)}", name="GET /books/{number}")

    @task
    def borrow(self):
        self.client.post("/loans", name="POST /loans")
