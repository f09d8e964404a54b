"""What the requests of the locustfile got: a line for each that fails or was not sent, one for all that answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.doctor.diagnosis import DiagnosisLine, meaningless, ok, warn
from harness.load.ipc.try_protocol import Tried, TriedRequest
from harness.model.errors import UsageError
from harness.scaffold.starter_locustfile import comment_out

ABOUT = "requests"
SHOWN = 8
ALL = "harness doctor --all-requests"


def lines_of(tried: Tried) -> Iterator[DiagnosisLine]:
    if tried.wrong:
        yield meaningless(ABOUT, f"the requests could not be tried: {tried.wrong}", "", "correct the locustfile")
        return
    of_tasks = [one for one in tried.held_back if not one.prepares]
    well = [one for one in tried.requests if not one.failed]
    if well:
        yield ok(ABOUT, f"{_many(len(well), 'request')} of the mix {_do(len(well), 'answer')}", _list(well))
    for one in tried.requests:
        if not one.failed:
            continue
        what = f"{one.name} fails: {_answers(one)}"
        if one.failed == one.sent:
            yield meaningless(
                ABOUT,
                what,
                one.example,
                "correct the request, or what it needs: a run would count each of them as a failure of the service",
            )
        else:
            yield warn(ABOUT, what, one.example, "a run counts such failures, also where nothing is broken")
    if of_tasks:
        shown = ", ".join(f"{held.name} ({held.method})" for held in of_tasks[:SHOWN])
        yield warn(ABOUT, f"not sent, because they may change something: {shown}", "", f"{ALL} sends them, too")
    for held in tried.held_back:
        if held.prepares:
            whose = f"{held.user} begins with" if held.user else "the file prepares with"
            yield warn(
                ABOUT,
                f"{whose} {held.name} ({held.method}), which was not sent, because it may change something",
                f"{held.user} has sent nothing else" if held.user else "",
                f"{ALL} sends it, too",
            )
    if tried.unasked:
        named = ", ".join(tried.unasked[:SHOWN])
        yield warn(
            ABOUT,
            f"{named} sent nothing: which of its requests change nothing cannot be told of a client of its own",
            "",
            f"{ALL} runs it, too",
        )
    if not tried.requests and not tried.held_back and not tried.unasked:
        yield meaningless(
            ABOUT,
            "the locustfile sent no request",
            "each of its tasks was run",
            "let its tasks send requests by self.client, or fire Locust's request event",
        )


def taken_out(tried: Tried, locustfile: str) -> Iterator[DiagnosisLine]:
    """Makes comments of the requests that the service answers with 400 or more, in a Locust file that init wrote."""
    refused = {
        one.name: f"answered {', '.join(one.answers)}"
        for one in tried.requests
        if one.failed == one.sent
        and one.answers
        and all(status.isdigit() and int(status) >= 400 for status in one.answers)
    }
    if not refused:
        return
    try:
        done = comment_out(Path(locustfile), refused)
    except UsageError as error:
        yield warn(ABOUT, "the locustfile was left as it is", str(error), error.hint or "")
        return
    if done:
        yield ok(ABOUT, f"made comments of {', '.join(done)} in {Path(locustfile).name}", "look again: harness doctor")


def _list(requests: list[TriedRequest]) -> str:
    shown = ", ".join(f"{one.name} {_statuses(one)} in {one.slowest_ms:.0f} ms" for one in requests[:SHOWN])
    return shown + (f" and {len(requests) - SHOWN} more" if len(requests) > SHOWN else "")


def _statuses(one: TriedRequest) -> str:
    return ", ".join(one.answers) or "well"


def _answers(one: TriedRequest) -> str:
    told = ", ".join(f"{many} x {status}" for status, many in one.answers.items())
    return f"{one.failed} of {one.sent}" + (f", answered {told}" if told else ", without an answer")


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _do(count: int, verb: str) -> str:
    return f"{verb}s" if count == 1 else verb
