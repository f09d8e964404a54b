"""What a generator writes down of its requests: nothing is lost between two flushes, and every row knows its end."""

from __future__ import annotations

import time

import msgspec
import pytest

from harness.load.record.arrival import Arrival
from harness.load.record.recorder import Recorder, shortened
from harness.model.clock import monotonic
from harness.model.records.windows import DeltaRow, ErrorRow, MarkRow, Row
from harness.model.sketch import quantile


def rows_of(data: bytes) -> list[DeltaRow]:
    decoded = [msgspec.json.decode(line, type=Row) for line in data.splitlines()]
    assert isinstance(decoded[-1], MarkRow)
    return [row for row in decoded if isinstance(row, DeltaRow)]


def errors_of(data: bytes) -> list[ErrorRow]:
    decoded = (msgspec.json.decode(line, type=Row) for line in data.splitlines())
    return [row for row in decoded if isinstance(row, ErrorRow)]


def started() -> Recorder:
    recorder = Recorder("w1", (200.0,))
    recorder.begin(monotonic() - 5.0)
    return recorder


def test_a_row_knows_in_which_step_its_requests_ended() -> None:
    recorder = started()
    for _ in range(4):
        recorder.ok("/a", 20, 30.0)
        recorder.fail("/a", 20, 700.0, "status", recorder.t0 + 2.0, "HTTP 500")
        time.sleep(0.06)
    before = recorder.step(monotonic())
    rows = rows_of(recorder.flush(50, 1))
    ends = [row.ended for row in rows]
    assert len(set(ends)) == len(rows) >= 2, "a row holds what ended in one step"
    assert all(end is not None and 50 <= end <= before for end in ends)
    assert sum(row.requests["/a"].ok for row in rows) == 4
    assert sum(row.requests["/a"].fail["status"] for row in rows) == 4


def test_the_length_of_replies_and_what_was_sent_twice_are_in_the_row() -> None:
    recorder = started()
    recorder.ok("/a", 20, 30.0, 900)
    recorder.ok("/a", 20, 30.0, 100)
    recorder.resent("/a", 20)
    counts = [row.requests["/a"] for row in rows_of(recorder.flush(50, 1))]
    assert (sum(c.body_bytes for c in counts), sum(c.resent for c in counts)) == (1000, 1)


def test_what_people_waited_for_an_error_is_kept_apart_from_the_latency_of_the_good_ones() -> None:
    recorder = started()
    recorder.ok("/a", 20, 30.0)
    for waited in (1_400.0, 1_500.0, 1_600.0):
        recorder.fail("/a", 20, waited, "timeout", recorder.t0 + 2.0, "too long")
    counts = [row.requests["/a"] for row in rows_of(recorder.flush(50, 1))]
    failed = {b: n for c in counts for b, n in zip(c.failed_sketch[::2], c.failed_sketch[1::2], strict=True)}
    assert sum(failed.values()) == 3
    median = quantile(failed, 0.5)
    assert median is not None and abs(median - 1_500.0) < 16
    assert max(c.failed_max_ms for c in counts) == 1_600.0
    assert max(c.max_ms for c in counts) == 30.0
    assert sum(sum(c.sketch[1::2]) for c in counts) == 1


def test_arrivals_that_end_without_a_request_end_in_their_row_too() -> None:
    recorder = started()
    arrival = Arrival(class_name="U", intended=recorder.t0 + 2.0, step=20)
    recorder.take(arrival)
    recorder.failed(arrival, "exception", "ValueError")
    recorder.end(arrival)
    (row,) = [row for row in rows_of(recorder.flush(50, 1)) if row.classes and row.classes["U"].failed]
    assert row.ended is not None and row.ended >= 50


@pytest.mark.parametrize("length", [0, 299, 300])
def test_an_example_that_fits_is_kept_as_it_is(length: int) -> None:
    assert shortened("x" * length) == "x" * length


def test_a_cut_in_an_example_is_seen_and_its_cause_kept() -> None:
    """Errors are counted by kind and name, never by their text."""
    recorder = started()
    for number in range(2):
        text = f"ConnectionError: {'x' * 400} ({number}) Name or service not known"
        recorder.fail("/a", 20, 5.0, "refused", recorder.t0 + 2.0, text)
    recorder.setup("/login", recorder.t0 + 2.0, 5.0, "refused", text)
    (error,) = errors_of(recorder.flush(50, 1) + recorder.flush(50, 1))
    assert error.count == 2 and len(error.example) == 300
    assert error.example.startswith("ConnectionError: x") and error.example.endswith("(0) Name or service not known")
    assert "x...x" in error.example
    assert recorder.warnings[0].endswith("Name or service not known") and "x...x" in recorder.warnings[0]


def test_errors_are_told_by_the_step_in_which_their_request_was_to_start() -> None:
    """Else a record that several experiments share could not be cut where one of them begins."""
    recorder = started()
    for at in (2.01, 2.09, 2.1, 2.35):
        recorder.fail("/a", recorder.step(recorder.t0 + at), 5.0, "status", recorder.t0 + at, "HTTP 500")
    recorder.failed(Arrival(class_name="U", intended=recorder.t0 + 2.1, step=21), "exception", "ValueError")
    rows = errors_of(recorder.flush(50, 1, final=True))
    seen = {(row.step, row.name): (row.kind, row.count, row.first_s, row.last_s) for row in rows}
    assert seen == {
        (20, "/a"): ("status", 2, 2.01, 2.09),
        (21, "/a"): ("status", 1, 2.1, 2.1),
        (23, "/a"): ("status", 1, 2.35, 2.35),
        (21, None): ("exception", 1, 2.1, 2.1),
    }


def test_errors_of_one_step_that_end_in_several_flushes_are_one_row() -> None:
    recorder = started()
    told = b""
    for _ in range(3):
        recorder.fail("/a", 20, 5.0, "status", recorder.t0 + 2.0, "HTTP 500")
        told += recorder.flush(50, 1)
    assert errors_of(told) == []
    (row,) = errors_of(recorder.flush(50, 1))
    assert (row.step, row.count) == (20, 3)
    assert errors_of(recorder.flush(50, 1, final=True)) == []
