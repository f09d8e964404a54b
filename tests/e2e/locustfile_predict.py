"""Predictions of the sample API, each of a new transaction, and nothing that is asked for again afterwards."""

import random

from locust import constant, task

from harness.load.lean import LeanHttpUser


class Caller(LeanHttpUser):
    wait_time = constant(1)

    @task
    def predict(self) -> None:
        transaction = {
            "hash": f"0x{random.getrandbits(256):064x}",
            "from_address": f"0x{random.getrandbits(160):040x}",
            "to_address": f"0x{random.getrandbits(160):040x}",
            "value": 1.0,
            "gas": 21_000,
            "gas_price": 20 * 10**9,
            "block_number": 21_500_000,
            "timestamp": "2025-01-01T00:00:00Z",
        }
        self.client.post("/api/v1/predict", json={"transaction": transaction})
