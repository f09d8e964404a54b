"""What a client of the sample API sees while all is well."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from .conftest import LIMIT_S, Api, World, running, wait_until
from .traffic import Transactions, client

MADE = Transactions(seed=5, repeats=0.0)


def ask(api: Api, method: str, path: str, body: object = None, headers: str = "") -> tuple[int, bytes]:
    async def go() -> tuple[int, bytes]:
        async with client(api.port, LIMIT_S) as one:
            return await one.request(method, path, body, headers)

    return asyncio.run(go())


def answer(api: Api, method: str, path: str, body: object = None) -> Any:
    status, text = ask(api, method, path, body)
    assert status == 200, text
    return msgspec.json.decode(text)


def test_a_prediction_is_scored_then_found_in_the_cache(api: Api) -> None:
    transaction = MADE.one()
    first = answer(api, "POST", "/api/v1/predict", {"transaction": transaction})
    assert first["transaction_hash"] == transaction["hash"]
    assert first["from_cache"] is False and 0.5 <= first["confidence"] <= 1
    assert first["model_version"] in {one["version"] for one in api.get("/api/v1/models")["models"]}
    score = first.pop("risk_score")
    assert score is None or 0 <= score <= 1

    def cached() -> bool:
        again = answer(api, "POST", "/api/v1/predict", {"transaction": transaction})
        score = again.pop("risk_score")
        assert {**again, "from_cache": False} == first
        assert score is None or not again["from_cache"], "a prediction that was known comes without"
        return bool(again["from_cache"])

    wait_until("the prediction to be cached", cached)


def test_an_acknowledged_prediction_is_stored(api: Api, world: World) -> None:
    transaction = MADE.one()
    made = answer(api, "POST", "/api/v1/predict", {"transaction": transaction})
    del made["risk_score"]
    assert answer(api, "GET", f"/api/v1/predictions/{transaction['hash']}") == made
    wait_until(
        "the row", lambda: world.query("SELECT 1 FROM predictions WHERE hash = %s", transaction["hash"]) == [(1,)]
    )
    assert ask(api, "GET", f"/api/v1/predictions/0x{'0' * 64}")[0] == 404


def test_a_batch_is_answered_in_order_and_twins_alike(api: Api) -> None:
    batch = [MADE.one() for _ in range(49)]
    batch.append(batch[3])
    made = answer(api, "POST", "/api/v1/batch/predict", {"transactions": batch})
    assert made["total_processed"] == 50
    assert [one["transaction_hash"] for one in made["predictions"]] == [one["hash"] for one in batch]
    assert made["predictions"][3] == made["predictions"][49]


def test_an_absurd_value_is_an_anomaly_that_the_list_shows_first(api: Api) -> None:
    ordinary = {**MADE.one(), "value": 1.5, "gas": 21_000, "timestamp": "2026-01-01T12:00:00Z"}
    assert answer(api, "POST", "/api/v1/predict", {"transaction": ordinary})["is_anomaly"] is False
    odd = {**MADE.one(), "value": 1e9}
    made = answer(api, "POST", "/api/v1/predict", {"transaction": odd})
    assert made["is_anomaly"] is True and made["severity"] == "critical"
    wait_until(
        "the anomaly in the list",
        lambda: answer(api, "GET", "/api/v1/anomalies?limit=1")["anomalies"][0]["transaction_hash"] == odd["hash"],
    )
    critical = answer(api, "GET", "/api/v1/anomalies?limit=100&severity=critical")
    assert critical["count"] == len(critical["anomalies"]) >= 1 and critical["stale"] is False
    assert {one["severity"] for one in critical["anomalies"]} == {"critical"}


def test_profiles_hold_each_transaction_once(api: Api, world: World) -> None:
    """Repeats of a prediction, cached or not, must not teach the model twice."""
    transaction = {**MADE.one(), "from_address": "0x" + "ab" * 20}
    others = [{**MADE.one(), "from_address": transaction["from_address"]} for _ in range(4)]
    for batch in ([transaction], [transaction, *others], [transaction, transaction]):
        answer(api, "POST", "/api/v1/batch/predict", {"transactions": batch})
    query = "SELECT n FROM address_profiles WHERE address = %s"
    wait_until("five transactions", lambda: world.query(query, transaction["from_address"]) == [(5,)])
    stored = world.query(
        "SELECT avg(ln(1 + value)), var_pop(ln(1 + value)) * 5 FROM predictions WHERE from_address = %s",
        transaction["from_address"],
    )
    kept = world.query(
        "SELECT value_mean, value_m2 FROM address_profiles WHERE address = %s", transaction["from_address"]
    )
    assert kept[0] == pytest.approx(stored[0])


GOOD = MADE.one()


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("predict", b"", ["body"]),
        ("predict", b"{", ["body"]),
        ("predict", b"\xff\xfe{}", ["body"]),
        ("predict", [], ["body"]),
        ("predict", {}, ["body"]),
        ("predict", {"transaction": None}, ["body", "transaction"]),
        ("predict", {"transaction": {**GOOD, "hash": "0x12"}}, ["body", "transaction", "hash"]),
        ("predict", {"transaction": {**GOOD, "value": -1}}, ["body", "transaction", "value"]),
        ("predict", {"transaction": {**GOOD, "value": 1e31}}, ["body", "transaction", "value"]),
        ("predict", {"transaction": {**GOOD, "value": "1"}}, ["body", "transaction", "value"]),
        ("predict", {"transaction": {**GOOD, "gas": 1.5}}, ["body", "transaction", "gas"]),
        ("predict", {"transaction": {**GOOD, "gas_price": 2**63}}, ["body", "transaction", "gas_price"]),
        ("predict", {"transaction": {**GOOD, "timestamp": "yesterday"}}, ["body", "transaction", "timestamp"]),
        (
            "predict",
            {"transaction": {**GOOD, "from_address": "0x" + "é" * 40}},
            ["body", "transaction", "from_address"],
        ),
        ("batch/predict", {"transactions": []}, ["body", "transactions"]),
        ("batch/predict", {"transactions": [GOOD] * 51}, ["body", "transactions"]),
        ("batch/predict", {"transactions": [GOOD, {**GOOD, "gas": -1}]}, ["body", "transactions", 1, "gas"]),
    ],
)
def test_a_body_that_cannot_be_used_is_422_and_says_where(
    api: Api, path: str, body: object, place: list[object]
) -> None:
    status, text = ask(api, "POST", f"/api/v1/{path}", body)
    assert status == 422, text
    detail = msgspec.json.decode(text)["detail"][0]
    assert detail["loc"] == place or detail["loc"] == [*place[:-1], "..."], detail
    assert detail["msg"]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "severity=huge"])
def test_a_query_that_cannot_be_used_is_422(api: Api, query: str) -> None:
    assert ask(api, "GET", f"/api/v1/anomalies?{query}")[0] == 422


def test_a_body_that_is_too_large_is_413(api: Api) -> None:
    assert ask(api, "POST", "/api/v1/predict", b" " * 300_000)[0] == 413


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00", "9999-12-31T23:59:59+00:00", "2026-01-01T00:00:00-12:00"])
def test_the_edges_of_what_is_allowed_are_answered_and_stored(api: Api, world: World, moment: str) -> None:
    edge = {
        **MADE.one(),
        "value": 1e30,
        "gas": 2**63 - 1,
        "gas_price": 2**63 - 1,
        "block_number": 0,
        "timestamp": moment,
    }
    answer(api, "POST", "/api/v1/predict", {"transaction": edge})
    wait_until("the row", lambda: world.query("SELECT 1 FROM predictions WHERE hash = %s", edge["hash"]) == [(1,)])


def test_large_answers_are_compressed_and_small_ones_are_not(api: Api) -> None:
    batch = {"transactions": [MADE.one() for _ in range(50)]}
    _, text = ask(api, "POST", "/api/v1/batch/predict", batch, "Accept-Encoding: gzip\r\n")
    assert msgspec.json.decode(gzip.decompress(text))["total_processed"] == 50
    assert ask(api, "GET", "/health", None, "Accept-Encoding: gzip\r\n")[1].startswith(b"{")


def test_metrics_count_requests_by_route_and_follow_the_stream(api: Api) -> None:
    transaction = MADE.one()
    before = api.signal("kafka_events_consumed_total")
    answer(api, "POST", "/api/v1/predict", {"transaction": transaction})
    ask(api, "GET", "/no/such/page")
    page = api.get("/metrics")
    assert 'http_requests_total{method="POST",route="/api/v1/predict",status="200"}' in page
    assert 'http_request_duration_seconds_bucket{le="0.2",method="POST",route="/api/v1/predict",status="200"}' in page
    assert 'route="unmatched",status="404"' in page and "no/such" not in page
    for name in ("cache_hit_rate", "kafka_consumer_lag"):
        assert api.signal(name) >= 0
    wait_until("the event to come back", lambda: api.signal("kafka_events_consumed_total") > before)


def test_the_interface_is_described(api: Api) -> None:
    paths = api.get("/openapi.json")["paths"]
    body = paths["/api/v1/batch/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["transactions"]["maxItems"] == 50


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ANOMALY_API_DEFECT", "no-timeot"),
        ("REDIS_ENABLED", "maybe"),
        ("DB_POOL_SIZE", "-1"),
        ("API_WORKERS", "two"),
        ("PORT", "http"),
    ],
)
def test_a_setting_that_cannot_be_used_stops_the_start_in_one_line(
    world: World, tmp_path: Path, name: str, value: str
) -> None:
    log = tmp_path / "log"
    with pytest.raises(AssertionError), running(world, log, wait=False, **{name: value}):
        pass
    (line,) = log.read_text().splitlines()
    assert f"{name}={value}" in line


def test_without_a_cache_everything_is_scored(world: World, tmp_path: Path) -> None:
    with running(world, tmp_path / "log", wait=False, REDIS_ENABLED="false") as plain:
        others = {"redis": "disabled", "database": "up", "kafka": "up", "risk": "up"}
        wait_until("the others", lambda: plain.health() == others)
        transaction = MADE.one()
        for _ in range(2):
            made = answer(plain, "POST", "/api/v1/predict", {"transaction": transaction})
            assert made["from_cache"] is False


def test_workers_share_one_set_of_metrics_and_race_safely_for_the_schema(world: World, tmp_path: Path) -> None:
    with world.empty_schema() as url, running(world, tmp_path / "log", API_WORKERS="2", DATABASE_URL=url) as pair:
        wait_until("both workers", lambda: pair.log.read_text().count("kafka answers") == 2)
        for _ in range(20):
            answer(pair, "POST", "/api/v1/predict", {"transaction": MADE.one()})
        pages = [pair.get("/metrics") for _ in range(6)]
        counted = 'http_requests_total{method="POST",route="/api/v1/predict",status="200"} 20.0'
        assert all(counted in page for page in pages)
        assert "Traceback" not in pair.log.read_text()


def test_a_database_that_was_emptied_is_filled_again(world: World, tmp_path: Path) -> None:
    with world.empty_schema() as url, running(world, tmp_path / "log", DATABASE_URL=url) as api:
        answer(api, "POST", "/api/v1/predict", {"transaction": MADE.one()})
        with psycopg.connect(world.admin, dbname="anomalies", autocommit=True) as admin:
            admin.execute("DROP TABLE emptied.predictions, emptied.address_profiles")
            transaction = MADE.one()
            answer(api, "POST", "/api/v1/predict", {"transaction": transaction})
            query = "SELECT 1 FROM emptied.predictions WHERE hash = %s"

            def stored() -> bool:
                try:
                    return bool(admin.execute(query, (transaction["hash"],)).fetchall())
                except psycopg.errors.UndefinedTable:
                    return False

            wait_until("the row", stored)
