"""The load's generators as its main process sees them, and Locust's master kept from acting on its own."""

from __future__ import annotations

import secrets
import subprocess
from typing import Any

import msgspec
from locust.runners import HEARTBEAT_LIVENESS, MasterRunner, WorkerNode

from harness.load.ipc.door import Door
from harness.load.ipc.protocol import BYE, CONNECTED, HELLO, PONG, SHAPES
from harness.load.master.clocks import ClockMap
from harness.model.clock import monotonic

_BEFORE_IT_IS_IN = frozenset({HELLO, PONG, BYE, CONNECTED})
"""Messages of who is not a member yet, or come on a remote worker's other connection."""


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
    starts users, through MasterRunner.start itself, and only its members get any.

    It would end at a message that it cannot decode, and believe whatever name a message gives. Here the key that it
    came with says whose it is: door.py.
    """

    _released = False

    def __init__(self, environment: Any, host: str, port: int, door: Door) -> None:
        self._door = door
        self._nodes: dict[int, str] = {}
        super().__init__(environment, host, port)

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

    def client_listener(self) -> None:
        while True:
            received = self._door.receive(self.server.socket)
            if received is None:
                continue
            node, msg, number = received
            try:
                self._handle(node, msg, number)
            except Exception as error:  # Locust's own handlers trust what they get
                self._door.dropped(number, f"{msg.type[:40]} is not as it should be ({type(error).__name__})")

    def _handle(self, node: str, msg: Any, number: int) -> None:
        """number: of the worker whose key the message came with."""
        msg.worker = number
        if msg.type == "client_ready":
            self.send_message("ack", client_id=node, data={"index": self.get_worker_index(node)})
            return
        if msg.type in SHAPES:
            msgspec.convert(msg.data, SHAPES[msg.type])
            if msg.data.get("worker", number) != number:
                self._door.dropped(number, f"it speaks for w{msg.data['worker']}, whose key it does not have")
                return
        if msg.type in _BEFORE_IT_IS_IN:
            # A remote worker asks again until the gate is open.
            if msg.type in self.custom_messages:
                self.handle_message(node, msg)
        elif self._nodes.get(number) == node:
            self.handle_message(node, msg)
        elif number in self._nodes:
            # One that was given up may not know it yet: nothing to tell.
            self._door.dropped(number, "it came on another connection than the worker's own")

    def dropped(self, number: int, why: str) -> None:
        """What that worker sent is not used."""
        self._door.dropped(number, why)

    def admit(self, number: int, node: str) -> None:
        """The node is one of ours: it gets commands and users."""
        self._nodes[number] = node
        self.clients[node] = WorkerNode(node, heartbeat_liveness=HEARTBEAT_LIVENESS)
        self.environment.events.worker_connect.fire(client_id=node)

    def dismiss(self, node: str) -> None:
        """It gets nothing any more."""
        self._nodes = {number: each for number, each in self._nodes.items() if each != node}
        found = self.clients._worker_nodes.pop(node, None)
        if found is not None and self._users_dispatcher is not None:
            self._users_dispatcher.remove_worker(found)
