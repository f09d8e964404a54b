"""Chart data that goes with sample.py: a service that loses its cache for a minute, and a recorder with a gap."""

from __future__ import annotations

import random

from harness.analysis.verdict.timeline import ChartData

from .sample import END_S, INJECTED_S, UNDONE_S, Kind

STEP_S = 0.5


def chart(kind: Kind = "fail") -> ChartData:
    draw = random.Random(11)
    end = 92.0 if kind == "interrupted" else END_S
    t = [round(i * STEP_S, 1) for i in range(int(end / STEP_S))]
    hurt = kind in ("fail", "hostile")
    rps: list[float | None] = []
    planned: list[float | None] = []
    status: list[float | None] = []
    timeout: list[float | None] = []
    p50: list[float | None] = []
    p95: list[float | None] = []
    p99: list[float | None] = []
    flight: list[float | None] = []
    for at in t:
        if 150 <= at < 156:  # nothing was recorded here
            for values in (rps, status, timeout, p50, p95, p99, flight):
                values.append(None)
            planned.append(200.0)
            continue
        aim = 200 * min(1.0, (at + 0.25) / 10)
        bad = hurt and INJECTED_S <= at < UNDONE_S + 1.3
        planned.append(aim)
        rps.append(max(0.0, draw.gauss(aim * (0.93 if bad else 1), aim**0.5)))
        status.append(max(0.0, draw.gauss(21, 5)) if bad else 0.0)
        timeout.append(draw.uniform(0, 9) if bad and at < 84 else 0.0)
        slow = 3.7 if bad else 1.0
        p50.append(8.4 * slow * draw.uniform(0.9, 1.15))
        p95.append(24.1 * (7 if bad else 1) * draw.uniform(0.8, 1.3))
        p99.append(41.0 * (17 if bad else 1) * draw.uniform(0.7, 1.5))
        flight.append(float(draw.randrange(1, 6) + (draw.randrange(10, 90) if bad else 0)))
    sample_t = [float(i) for i in range(int(end))]
    down = [INJECTED_S <= at < UNDONE_S for at in sample_t]
    return ChartData(
        step_s=STEP_S,
        t=t,
        lengths_s=[STEP_S] * len(t),
        planned_rps=planned,
        rps=rps,
        failures={"status": status, "timeout": timeout, "unsent": [0.0] * len(t)},
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        in_flight=flight,
        sample_t=sample_t,
        cpu={
            "target": [draw.uniform(0.35, 0.5) + 0.2 * d for d in down],
            "redis": [None if d else draw.uniform(0.02, 0.05) for d in down],
            "db": [draw.uniform(0.1, 0.2) for _ in down],
            "kafka": [draw.uniform(0.05, 0.3) for _ in down],
        },
        rss={
            "target": [(182 + i * 0.02) * 1e6 for i, _ in enumerate(down)],
            "redis": [None if d else 13e6 for d in down],
            "kafka": [325e6 + i * 1e4 for i, _ in enumerate(down)],
        },
        signals={
            "cache_hit_rate": [0.0 if d else draw.uniform(0.78, 0.86) for d in down],
            "kafka_consumer_lag": [float(draw.randrange(0, 8)) for _ in down],
            "http_requests_total": [draw.gauss(200, 8) for _ in down],
        },
    )
