"""LeanHttpUser: an HTTP client that costs the generator little.

Locustfiles and the generator come in. Imports allowed_hosts only.
"""

from harness.load.lean.response import BadStatus, LeanResponse
from harness.load.lean.session import LeanSession
from harness.load.lean.user import LeanHttpUser

__all__ = ["BadStatus", "LeanHttpUser", "LeanResponse", "LeanSession"]
