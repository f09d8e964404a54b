"""Work that may take longer than the keeper's lease: done in a thread, while the caller's thread renews it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from harness.safety.keeper.client import Keeper

POLL_S = 0.05


def renewing(keeper: Keeper | None, work: Callable[[], None]) -> None:
    """Returns when the work is done, and raises what it raised."""
    if keeper is None:
        work()
        return
    raised: list[BaseException] = []

    def job() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=job, name="while-renewing", daemon=True)
    thread.start()
    while thread.is_alive():
        keeper.renew()
        thread.join(POLL_S)
    if raised:
        raise raised[0]
