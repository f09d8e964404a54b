"""What can go wrong with a Docker engine, beside what every adapter has (harness/model/errors.py).

Unreachable
└── EngineAbsent     nobody listens where the engine should be
Rejected
├── EngineDenied     it is there, and this user may not speak to it
├── EngineTooOld     it does not speak a version of the API that is new enough
└── Conflict         409: not in the container's present state
"""

from __future__ import annotations

from harness.model.errors import Rejected, Unreachable


class EngineAbsent(Unreachable):
    pass


class EngineDenied(Rejected):
    pass


class EngineTooOld(Rejected):
    pass


class Conflict(Rejected):
    pass
