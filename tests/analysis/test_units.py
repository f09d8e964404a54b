"""What people type as quantities is understood exactly, or refused in one line that says what to write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model import units
from harness.model.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300ms", 0.3),
        ("2s", 2),
        ("1m30s", 90),
        ("1m 30s", 90),
        ("5m", 300),
        ("1h", 3600),
        ("1.5h", 5400),
        ("250us", 0.00025),
        ("10 min", 600),
        ("0", 0),
        ("0ms", 0),
        (".5s", 0.5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("30", "the unit is missing; write 30s or 30ms"),
        ("", "not a duration"),
        ("s", "not a duration"),
        ("-3s", "negative"),
        ("-0ms", "negative"),
        ("-0", "negative"),
        ("1m-0s", "not a duration"),
        ("nan", "finite"),
        ("inf", "finite"),
        ("1e3s", "unit"),
        ("30s1m", "large to small"),
        ("1s1s", "large to small"),
        ("5 parsecs", "'parsecs' is no unit of time"),
        ("400d", "30 days"),
        ("1m,30s", "not a duration"),
        ("1s;", "not a duration"),
        ("١s", "not a duration"),
    ],
)
def test_wrong_durations_are_refused_with_one_line(text: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        units.parse_duration(text, "latency")
    message = str(refused.value)
    assert says in message and message.startswith("latency ") and "\n" not in message


def test_sizes_and_rates() -> None:
    assert units.parse_size("64MB") == 64_000_000
    assert units.parse_size("64MiB") == 64 * 2**20
    assert units.parse_size("100B") == 100
    assert units.parse_rate("32KB/s") == 32_000
    assert units.parse_rate("1 mib/s") == 2**20
    for wrong, says in [("64", "write 64MB or 64KB"), ("64 bananas", "no unit of bytes"), ("-1MB", "negative")]:
        with pytest.raises(UsageError, match=says):
            units.parse_size(wrong)
    for wrong, says in [
        ("32", "write 32KB/s"),
        ("32KB", "write 32KB/s"),
        ("inf", "finite"),
        ("9999999GB/s", "mistake"),
    ]:
        with pytest.raises(UsageError, match=says):
            units.parse_rate(wrong)


def test_percentages_and_counts() -> None:
    assert units.parse_percent("95%") == 0.95
    assert units.parse_percent("0.1 %") == pytest.approx(0.001)
    assert units.parse_count("5,000") == 5000
    assert units.parse_number("0.25") == 0.25
    for wrong, says in [("95", "write 95%"), ("101%", "more than 100%"), ("-1%", "negative"), ("x%", "not a perc")]:
        with pytest.raises(UsageError, match=says):
            units.parse_percent(wrong)
    for wrong in ("1.5", "-1", "many", "nan", "99999999999", "1,00", ""):
        with pytest.raises(UsageError):
            units.parse_count(wrong)


@given(st.text(max_size=12))
def test_no_text_escapes_as_another_error(text: str) -> None:
    for parse in (units.parse_duration, units.parse_size, units.parse_rate, units.parse_percent, units.parse_count):
        try:
            assert parse(text) >= 0
        except UsageError as error:
            assert "\n" not in str(error)


def test_what_people_read() -> None:
    assert [units.format_duration(s) for s in (0, 0.0413, 1.3, 59.97, 90, 5400)] == [
        "0s",
        "41ms",
        "1.3s",
        "1m",
        "1m30s",
        "1h30m",
    ]
    assert [units.format_ms(ms) for ms in (0.42, 4.15, 41.3, 999.7, 24_000)] == ["0.42ms", "4.2ms", "41ms", "1s", "24s"]
    assert [units.format_rps(r) for r in (0, 0.52, 200.13, 10_000)] == ["0", "0.52", "200.1", "10,000"]


def test_percentages_never_hide_a_failure() -> None:
    assert units.format_percent(0.124) == "12.4%"
    assert units.format_percent(1) == "100%"
    assert units.format_percent(0) == units.format_percent(-0.0) == "0%"
    assert units.format_percent(-0.032) == "-3.2%"
    assert "-0%" not in (units.format_percent(-1e-8), units.format_percent(-0.0004))
    assert units.format_percent(0.9997) == "99.97%"
    assert units.format_percent(0.0000001) not in ("0%", "")
