import random

from locust import FastHttpUser, task


class Customer(FastHttpUser):
    @task(4)
    def look(self):
        self.client.get(f"/items/{random.randrange(1000)}", name="GET /items/{number}")

    @task
    def order(self):
        self.client.post("/orders", name="POST /orders")
