from locust import FastHttpUser, task


class Watcher(FastHttpUser):
    @task
    def look(self):
        self.client.get("/health", name="GET /health")
