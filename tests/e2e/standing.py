"""A stack kept up by `harness stack up`, and its state as seen from outside."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from harness.adapters.keeper.client import KeeperClient
from tests.e2e.observe import HARNESS, http_json, proxies


def harness_command(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the real command to its end."""
    return subprocess.run(
        [str(HARNESS), *args],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


class StandingStack:
    """Brings the stack up with the real command; state is its XDG_STATE_HOME, shared with the runs against it. args: of
    `harness stack up`."""

    def __init__(self, folder: Path, *args: str) -> None:
        self.state = folder / "state"
        done = self.harness("stack", "up", *args)
        assert done.returncode == 0, done.stderr
        try:
            self.info: dict[str, Any] = json.loads(self.harness("stack", "status", "--json").stdout)
        except BaseException:
            self.down()
            raise

    def harness(self, *args: str) -> subprocess.CompletedProcess[str]:
        return harness_command(*args, XDG_STATE_HOME=str(self.state))

    def dependency(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(d for d in self.info["dependencies"] if d["name"] == name)
        return found

    def password(self) -> str:
        """Of its Valkey, as its keeper tells it to those who may open its socket."""
        folder = next((self.state / "harness" / "stacks").glob("*/keeper.jsonl")).parent
        return str(KeeperClient(folder).input_of("valkey")).removeprefix("requirepass ").strip()

    def server(self, name: str) -> int:
        """The pid of one of its servers, as its keeper's journal has it."""
        for path in (self.state / "harness" / "stacks").glob("*/keeper.jsonl"):
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                if entry["entry"] == "process" and entry["root"]["name"] == name:
                    return int(entry["root"]["process"]["pid"])
        raise LookupError(name)

    def snapshot(self) -> dict[str, Any]:
        """Everything a run may change: raw /proxies and the roles' connection limits."""
        return {"proxies": proxies(self.dependency("redis")["proxy"]["url"]), "roles": self._roles()}

    def _roles(self) -> dict[str, int]:
        import psycopg

        with psycopg.connect(self.dependency("db")["credentials"]["admin"], connect_timeout=5) as connection:
            rows = connection.execute("SELECT rolname, rolconnlimit FROM pg_roles ORDER BY rolname").fetchall()
        return dict(rows)

    def healthy(self) -> bool:
        return bool(http_json(self.info["target"]["url"] + "/health")["status"] == "ok")

    def down(self) -> None:
        done = self.harness("stack", "down")
        assert done.returncode == 0, done.stderr
