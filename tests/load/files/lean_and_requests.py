"""python lean_and_requests.py CLIENT URL: makes every call of lean_cases.py and prints what came of each, as JSON.

CLIENT: lean, or http (requests, as Locust's HttpUser has it). Each request carries the number of its case.
"""

import json
import sys
from pathlib import Path

from locust.clients import HttpSession
from locust.event import EventHook

from harness.load.lean import LeanSession

sys.path.insert(0, str(Path(__file__).parents[1]))
from lean_cases import CASES

CLIENT, URL = sys.argv[1:]


def outcome(session, call):
    """[status, body, redirects], or only "none" where there is no reply: refused, or no sense in it."""
    method, path, options = call
    options = {"allow_redirects": True, **options}
    try:
        reply = session.request(method, path.replace("{url}", URL), **options)
    except Exception:
        return "none"
    if not reply.status_code or reply.content is None:
        return "none"
    failed = reply.error is not None and reply.status_code < 400
    return "none" if failed else [reply.status_code, reply.content.decode("latin-1"), len(reply.history)]


found = {}
for number, (name, calls) in enumerate(CASES.items()):
    base = f"{URL}/base" if name.startswith("base ") else URL
    if CLIENT == "lean":
        session = LeanSession(base, EventHook(), timeout_s=20, default_headers={"X-Case": str(number)})
    else:
        session = HttpSession(base, EventHook(), None)
        session.trust_env = False
        session.headers["X-Case"] = str(number)
    found[name] = [outcome(session, call) for call in calls]
    session.close()
print(json.dumps(found))
