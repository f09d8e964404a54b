"""The load of a blockchain anomaly-detection API: two types of user.

Runs under plain Locust as well as under the harness:

    locust -f locustfiles/anomaly.py --host http://127.0.0.1:8000                     web UI
    locust -f locustfiles/anomaly.py --host ... --headless -u 50 -r 10 -t 1m --csv out
    locust -f locustfiles/anomaly.py --host ... --master      and on other machines --worker

AnomalyDetectionUser  50 % single predictions, 25 % batches, 15 % anomaly queries, 10 % health checks; waits 1-3 s
HighThroughputUser    single predictions only, hardly a pause (0.1-0.5 s)
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from locust import between, task

try:
    from harness.load.lean import LeanHttpUser as HttpClientUser
except ImportError:
    # Locust alone is enough: with its own fast client, which takes more of the processor for each request.
    from locust import FastHttpUser as HttpClientUser

try:
    from harness.load.acknowledged import Acknowledged
except ImportError:  # plain Locust on a machine without the harness: nothing is read back
    PREDICTIONS = None
else:
    # What a prediction says is kept: an audit asks for it later by the transaction's hash.
    PREDICTIONS = Acknowledged("/api/v1/predictions/{id}", name="prediction")

PREDICT = "/api/v1/predict"
BATCH = "/api/v1/batch/predict"
ANOMALIES = "/api/v1/anomalies"
HEALTH = "/health"

POOL_SIZE = 2000
"""Transactions of the pool that predictions are drawn from: popular ones come again, so that a cache is of use."""
MAX_BATCH = 50
SEVERITIES = ("low", "medium", "high", "critical")


def _hex(rng: random.Random, digits: int) -> str:
    return f"0x{rng.getrandbits(4 * digits):0{digits}x}"


def make_transaction(rng: random.Random) -> dict[str, object]:
    """One transaction: mostly transfers and contract calls of usual size, now and then one that stands out."""
    unusual = rng.random() < 0.03
    contract_call = rng.random() < 0.4
    mined = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(10_000_000))
    return {
        "hash": _hex(rng, 64),
        "from_address": _hex(rng, 40),
        "to_address": _hex(rng, 40),
        "value": round(rng.uniform(1_000, 50_000) if unusual else rng.lognormvariate(-1.5, 1.5), 6),
        "gas": rng.randrange(60_000, 900_000) if contract_call else 21_000,
        "gas_price": rng.randrange(300, 2_000) * 10**9 if unusual else rng.randrange(5, 80) * 10**9,
        "block_number": 21_500_000 + int(mined.timestamp() - 1_735_689_600) // 12,
        "timestamp": mined.isoformat().replace("+00:00", "Z"),
    }


def make_pool(size: int = POOL_SIZE) -> list[dict[str, object]]:
    """The same pool in every process: workers share what the target has cached."""
    rng = random.Random(20_250_101)
    return [make_transaction(rng) for _ in range(size)]


POOL = make_pool()
FRESH = random.Random()


def pick_transaction() -> dict[str, object]:
    """Nine in ten from the pool, its first ones far more often than its last; the others are new."""
    if random.random() < 0.1:
        return make_transaction(FRESH)
    return POOL[int(len(POOL) * random.random() ** 3)]


class AnomalyApiUser(HttpClientUser):  # type: ignore[misc, valid-type]
    """What both types of user do."""

    abstract = True

    def predict(self) -> None:
        transaction = pick_transaction()
        with self.client.post(PREDICT, name=PREDICT, json={"transaction": transaction}, catch_response=True) as reply:
            if reply.status_code != 200:
                return
            answer = self.answer(reply)
            if answer is None or not isinstance(answer.get("is_anomaly"), bool):
                reply.failure("no is_anomaly in the answer")
            elif answer.get("transaction_hash", transaction["hash"]) != transaction["hash"]:
                reply.failure("the answer is for another transaction")
            else:
                self.note(answer)

    def note(self, prediction: object) -> None:
        """A prediction that was made and not only found again is a write that the API has acknowledged."""
        if PREDICTIONS is None or not isinstance(prediction, dict) or prediction.get("from_cache") is not False:
            return
        if isinstance(made_for := prediction.get("transaction_hash"), str):
            PREDICTIONS.note(self, made_for)

    @staticmethod
    def answer(reply) -> dict | None:  # type: ignore[no-untyped-def, type-arg]
        """The reply's JSON object, None when it is something else."""
        try:
            decoded = reply.json()
        except (ValueError, TypeError):
            return None
        return decoded if isinstance(decoded, dict) else None


class AnomalyDetectionUser(AnomalyApiUser):
    """An analyst's tool: mostly single predictions, some batches and queries."""

    weight = 1
    wait_time = between(1, 3)

    @task(50)
    def single_prediction(self) -> None:
        self.predict()

    @task(25)
    def batch_prediction(self) -> None:
        transactions = [pick_transaction() for _ in range(random.randint(10, MAX_BATCH))]
        with self.client.post(BATCH, name=BATCH, json={"transactions": transactions}, catch_response=True) as reply:
            if reply.status_code != 200:
                return
            answer = self.answer(reply)
            processed = None if answer is None else answer.get("total_processed")
            if processed != len(transactions):
                reply.failure(f"sent {len(transactions)} transactions, total_processed is {processed}")
                return
            for prediction in answer.get("predictions", ()):
                self.note(prediction)

    @task(15)
    def anomaly_query(self) -> None:
        limit, severity = random.choice((10, 20, 50, 100)), random.choice(SEVERITIES)
        path = f"{ANOMALIES}?limit={limit}&severity={severity}"
        with self.client.get(path, name=ANOMALIES, catch_response=True) as reply:
            if reply.status_code != 200:
                return
            answer = self.answer(reply)
            anomalies = None if answer is None else answer.get("anomalies")
            if not isinstance(anomalies, list) or len(anomalies) > limit:
                reply.failure(f"no list of at most {limit} anomalies in the answer")

    @task(10)
    def health_check(self) -> None:
        self.client.get(HEALTH, name=HEALTH)


class HighThroughputUser(AnomalyApiUser):
    """A service that checks every transaction it sees."""

    weight = 1
    wait_time = between(0.1, 0.5)

    @task
    def rapid_prediction(self) -> None:
        self.predict()
