from locust import HttpUser, task


class Customer(HttpUser):
    @task
    def look(self):
        self.client.get("/prices/tea", name="GET /prices")
