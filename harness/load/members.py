"""The load's generators as its main process sees them, and Locust's master kept from acting on its own."""

from __future__ import annotations

import secrets
import subprocess
from typing import Any

from locust.runners import HEARTBEAT_LIVENESS, MasterRunner, WorkerNode

from harness.load.clocks import ClockMap
from harness.load.protocol import HELLO
from harness.model.clock import monotonic


class Member:
    """One generator: a local process (child), one on another machine (channel), or this process (neither).

    token: what it must name when it joins. node: Locust's name for it. heard: when its last rows came; answered: when
    a remote one last answered a ping. shift: seconds from our clock to its own, as used since the start.
    """

    def __init__(self, index: int, child: subprocess.Popen[bytes] | None = None, *, remote: bool = False) -> None:
        self.index = index
        self.name = f"w{index}"
        self.child = child
        self.remote = remote
        self.clear()

    def clear(self) -> None:
        """Nobody has this place."""
        self.token = secrets.token_hex(8)
        self.node = self.channel = self.machine = ""
        self.pid = 0
        self.start_time = 0.0
        self.connected = self.ready = self.final = self.lost = self.stalled = False
        self.heard = self.answered = monotonic()
        self.clock = ClockMap()
        self.shift = self.doubt_told = 0.0

    @property
    def joined(self) -> bool:
        """Its locustfile is imported and, elsewhere, its clock is known."""
        return self.connected and (not self.remote or self.clock.offset is not None)


class Master(MasterRunner):  # type: ignore[misc]
    """Locust's master restarts the test when a worker that it missed is heard again, with its last number of users,
    stops it when the last one was not heard for a few seconds, and gives users to whoever connects. Only the load
    starts users, through MasterRunner.start itself, and only its members get any."""

    _released = False

    def start(self, *_arguments: Any, **_options: Any) -> None:
        pass

    def stop(self, send_stop_to_client: bool = True) -> None:
        # Only quit() asks for it without stopping the workers first.
        if not send_stop_to_client:
            super().stop(send_stop_to_client=False)

    def release(self) -> None:
        """The run is over: test_stop here; every worker is told to stop its users, report and end. Does not wait."""
        self._released = True
        self.stop(send_stop_to_client=False)
        self.send_message("quit")

    def quit(self) -> None:
        # Where the workers were released their end was waited for already.
        if not self._released:
            super().quit()
        self.greenlet.kill(block=True)

    def handle_message(self, client_id: str, msg: Any) -> None:
        if msg.type == "client_ready":
            self.send_message("ack", client_id=client_id, data={"index": self.get_worker_index(client_id)})
            return
        # A remote worker asks again until the gate is open.
        if msg.type != HELLO or HELLO in self.custom_messages:
            super().handle_message(client_id, msg)

    def admit(self, node: str) -> None:
        """The node is one of ours: it gets commands and users."""
        self.clients[node] = WorkerNode(node, heartbeat_liveness=HEARTBEAT_LIVENESS)
        self.environment.events.worker_connect.fire(client_id=node)

    def dismiss(self, node: str) -> None:
        """It gets nothing any more."""
        found = self.clients._worker_nodes.pop(node, None)
        if found is not None and self._users_dispatcher is not None:
            self._users_dispatcher.remove_worker(found)
