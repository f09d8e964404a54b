"""After a run: read back what the target has acknowledged, `python -m harness.load read-back`.

One `ReadBackStart` on stdin; `ReadBackBegun` and `ReadBackDone` on stdout. It is a process of its own, so that it can
import the locustfile, ends with the run's pipe, and cannot disturb the load.
"""

from __future__ import annotations

import msgspec

from harness.load.allowed_hosts.enforce import hold_to
from harness.load.generator.locustfile import BadLocustfile, load_classes
from harness.load.ipc.locustfiles import files_of
from harness.load.ipc.pipe import MessagePipe, ParentPipe
from harness.load.ipc.protocol import ReadBackBegun, ReadBackDone, ReadBackStart
from harness.load.writes.acknowledged import declared
from harness.load.writes.asking import limit_of, read_back, session
from harness.model.jsonl import encode_line
from harness.model.records.acknowledged import Answers


def run(messages: MessagePipe, pipe: ParentPipe) -> int:
    """The program. Exit code 0; 4 when the locustfile cannot be imported any more."""
    start = msgspec.json.decode(pipe.first_line(), type=ReadBackStart)
    try:
        load_classes(files_of(start.locustfile))
    except BadLocustfile as error:
        unread = Answers(there=0, unanswered=len(start.asks), example=str(error))
        messages.write(encode_line(ReadBackDone(answers=unread)))
        return 4
    hold_to(start.host, start.addresses, start.allow_hosts)
    limit_s = limit_of(start.asks, declared, start.rate)
    messages.write(encode_line(ReadBackBegun(limit_s=limit_s)))
    answers = read_back(start.asks, session(start.host), declared, rate=start.rate, limit_s=limit_s)
    messages.write(encode_line(ReadBackDone(answers=answers)))
    return 0
