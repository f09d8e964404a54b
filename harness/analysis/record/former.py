"""plan.json as former versions of the harness wrote it, in the form of today."""

from __future__ import annotations

from typing import Any

_PARTS = {
    "proxy": {
        "toxiproxy": "url",
        "proxy": "name",
        "proxy_pid": "pid",
        "proxy_port": "port",
        "seen_as": "seen_as",
        "proxy_runtime": "runtime",
    },
    "process": {name: name for name in ("pid", "pid_file", "server", "keeper", "start_config", "start_sha256")},
    "container": {
        "engine": "engine",
        "container": "id",
        "container_name": "name",
        "project": "project",
        "service": "service",
        "network_mode": "network_mode",
        "container_port": "port",
        "container_network": "network",
    },
    "credentials": {
        name: name
        for name in (
            *("login", "role", "password_env", "admin"),
            *("admin_password_env", "probe_login", "probe_password_env"),
        )
    },
}


def plan_of_today(plan: Any, schema: int) -> Any:
    """In schema 1 dependencies were of one piece, and now have parts; `allow_flush` became one entry of `allow`. What
    is of no such form is left for whoever checks it."""
    for fault in plan.get("faults", ()) if isinstance(plan, dict) else ():
        change = fault.get("change") if isinstance(fault, dict) else None
        if isinstance(change, dict) and isinstance(whole := change.get("dependency"), dict):
            if schema == 1:
                for part, names in _PARTS.items():
                    whole[part] = {new: whole.pop(old) for old, new in names.items() if old in whole}
            if "allow_flush" in whole:
                whole["allow"] = ["flush"] if whole.pop("allow_flush") else []
    return plan
