"""The Docker engine: the only place that imports the Docker SDK.

Every call has a time-out, and every answer is decoded into a record. A container is looked up by exact name or label
and from then on used by its full ID: the engine also takes names and beginnings of IDs, so a shorter text, or the ID
of a container that is gone, could lead to another container. That is why each write looks first whose ID answers.

Errors: EngineAbsent and Unreachable (nothing was done), OutcomeUnknown (a write without an answer: it may have been
done), EngineDenied, EngineTooOld, Conflict (409) and Rejected (the engine said no), Gone (that container or network
does not exist), Refused (not a full ID; an engine that must not be used).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from harness.adapters.docker.context import check_engine, tls_files
from harness.adapters.docker.errors import Conflict, EngineTooOld
from harness.adapters.docker.logs import demultiplexed
from harness.adapters.docker.records import Container, Info, Limits, Network, Stats, Version
from harness.adapters.docker.trouble import absent, cause_of, denied
from harness.model.clock import monotonic
from harness.model.errors import Gone, OutcomeUnknown, Refused, Rejected, Unreachable
from harness.model.records.faults import Applied

if TYPE_CHECKING:
    import requests
    from docker import APIClient

READ_S = 10.0
WRITE_S = 20.0
"""How long an engine may take to answer. Stopping a container takes its grace on top."""
LOWEST_API = (1, 41)
"""Engine 20.10."""
HIGHEST_API = (1, 51)
"""A newer engine is spoken to in this version: in none above it does an inspection tell the MAC address that a user
asked for. Descriptions were read up to 1.56."""

_T = TypeVar("_T")
_FULL_ID = re.compile(r"[0-9a-f]{64}")


def preload() -> None:
    """Import the SDK now rather than in the middle of an undo."""
    import docker  # noqa: F401


def full_id(text: object) -> str:
    """The text, when it is the full ID of a container or network: 64 hexadecimal digits. Raises Refused."""
    if not isinstance(text, str) or not _FULL_ID.fullmatch(text):
        raise Refused(
            f"{text!r} is not the full ID of a container",
            hint="the engine would take it for a name or for the beginning of another ID",
        )
    return text


def connect(url: str, *, allow_hosts: Collection[str] = (), timeout_s: float = READ_S) -> Engine:
    """An engine that has answered. url: as engine_url() gives it. timeout_s: for one request that only reads.

    Raises Refused for an engine on another machine whose host is not in `allow_hosts`, EngineAbsent, EngineDenied,
    EngineTooOld, Unreachable, UsageError.
    """
    check_engine(url, allow_hosts=allow_hosts)
    return Engine(url, timeout_s=timeout_s)


class Ran(msgspec.Struct, frozen=True):
    """How a program ended, and what it wrote."""

    exit_code: int
    out: bytes
    err: bytes


class Engine:
    """One Docker engine. Safe to use from several threads. url: where it is. version: what it said about itself."""

    def __init__(self, url: str, *, timeout_s: float = READ_S) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._client = _client(url, timeout_s)
        self._prefix = ""
        try:
            self.version = self.get("/version", Version)
            self._prefix = f"/v{_api(self.version, url)}"
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    @property
    def lowest_api(self) -> str:
        """The lowest version of its API that both take, "" where the engine takes whatever a client may ask for."""
        lowest = _pair(self.version.min_api_version)
        return "" if lowest <= (1, 24) else ".".join(map(str, max(lowest, LOWEST_API)))

    # what is there

    def info(self) -> Info:
        return self.get("/info", Info)

    def container(self, container_id: str) -> Container:
        """The container with exactly this full ID. Raises Gone when there is none, Refused when it is no full ID."""
        found = self.get(f"/containers/{full_id(container_id)}/json", Container)
        if found.id != container_id:  # another one has that text for its name
            raise Gone(f"container {container_id[:12]} does not exist any more on {self.url}")
        return found

    def find(self, labels: Mapping[str, str], *, running: bool = False) -> tuple[Container, ...]:
        """Every container that carries all of these labels, oldest first. running: only those that run, paused ones
        and those about to be started again included."""
        filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
        if running:
            filters["status"] = ["running", "paused", "restarting"]
        return self._listed(filters)

    def find_by_name(self, name: str) -> Container | None:
        """The container with exactly this name; None when there is none."""
        found = self._listed({"name": [f"^/?{re.escape(name)}$"]})
        return next((container for container in found if container.name == name), None)

    def network(self, network_id: str) -> Network:
        """The network with exactly this full ID. Raises Gone, Refused."""
        found = self.get(f"/networks/{full_id(network_id)}", Network)
        if found.id != network_id:
            raise Gone(f"network {network_id[:12]} does not exist any more on {self.url}")
        return found

    def networks(self, labels: Mapping[str, str]) -> tuple[Network, ...]:
        """Every network that carries all of these labels."""
        chosen = {"label": [f"{name}={value}" for name, value in labels.items()]}
        return self.get("/networks", tuple[Network, ...], params={"filters": _json(chosen)})

    def stats(self, container_id: str) -> Stats:
        """One sample, at once. All zero of a container that does not run."""
        path = f"/containers/{full_id(container_id)}/stats"
        return self.get(path, Stats, params={"stream": "false", "one-shot": "true"})

    # what changes it

    def pause(self, container_id: str) -> Applied:
        """Raises Conflict when it is paused already or does not run."""
        return self._change(container_id, "pause")

    def unpause(self, container_id: str) -> Applied:
        """Raises Rejected or Conflict when it is not paused."""
        return self._change(container_id, "unpause")

    def kill(self, container_id: str, *, signal: str = "SIGKILL") -> Applied:
        """Raises Conflict when it does not run."""
        return self._change(container_id, "kill", params={"signal": signal})

    def start(self, container_id: str) -> Applied:
        """Returns when it was started, not yet ready; at once when it runs."""
        return self._change(container_id, "start")

    def stop(self, container_id: str, *, grace_s: float) -> Applied:
        """Its own stop signal, SIGKILL after `grace_s` (whole seconds, rounded up). Returns when it has ended; at
        once when it does not run."""
        grace = -int(-grace_s // 1)
        return self._change(container_id, "stop", params={"t": str(grace)}, more_s=grace)

    def update(self, container_id: str, limits: Limits) -> Applied:
        """Set what is not None. A raw request: the SDK's update_container() knows neither NanoCpus nor PidsLimit."""
        return self._change(container_id, "update", body=limits)

    def remove(self, container_id: str, *, force: bool = False, volumes: bool = False) -> Applied:
        """Raises Conflict when it runs and `force` is not set. volumes: its anonymous ones too."""
        self.container(container_id)
        params = {"force": str(force).lower(), "v": str(volumes).lower()}
        return self.delete(f"/containers/{container_id}", params=params)

    # any other request

    def get(self, path: str, kind: type[_T], *, params: Mapping[str, str] | None = None) -> _T:
        """One GET below the API's version, decoded. Raises Gone for 404."""
        answer = self._send("GET", path, params=params)
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise Rejected(f"{self.url} does not answer as a Docker engine does ({path}: {error})") from error

    def raw(self, path: str, *, params: Mapping[str, str] | None = None) -> bytes:
        """One GET below the API's version, as it came (a log). Raises Gone for 404."""
        return bytes(self._send("GET", path, params=params).content)

    def post(
        self,
        path: str,
        body: msgspec.Struct | None = None,
        *,
        params: Mapping[str, str] | None = None,
        more_s: float = 0.0,
        api: tuple[int, int] | None = None,
    ) -> Applied:
        """One POST below the API's version. more_s: how much longer than usual the answer may take. api: a version that
        this request needs, and that the engine is known to speak."""
        sent = monotonic()
        self._send("POST", path, params=params, body=body, more_s=more_s, api=api)
        return Applied(sent, monotonic())

    def run(self, container_id: str, argv: Sequence[str], *, limit_s: float) -> Ran:
        """A program of the container's own, in it, without a shell. Raises OutcomeUnknown when it does not end in
        time."""
        self.container(container_id)
        order = _Exec(cmd=tuple(argv))
        made = self._send("POST", f"/containers/{container_id}/exec", body=order)
        name = msgspec.json.decode(made.content, type=_Made).id
        stream = self._send("POST", f"/exec/{full_id(name)}/start", body=_Start(), more_s=limit_s).content
        done = self.get(f"/exec/{name}/json", _Done)
        if done.running or done.exit_code is None:
            raise OutcomeUnknown(f"{argv[0]} in container {container_id[:12]} has not ended")
        return Ran(done.exit_code, demultiplexed(stream, 1), demultiplexed(stream, 2))

    def delete(self, path: str, *, params: Mapping[str, str] | None = None) -> Applied:
        """One DELETE below the API's version. Raises Gone for 404, Conflict for what is in use."""
        sent = monotonic()
        self._send("DELETE", path, params=params)
        return Applied(sent, monotonic())

    def _listed(self, filters: Mapping[str, list[str]]) -> tuple[Container, ...]:
        rows = self.get("/containers/json", list[_Row], params={"all": "true", "filters": _json(filters)})
        found = []
        for row in sorted(rows, key=lambda row: (row.created, row.id)):
            try:
                found.append(self.container(row.id))
            except Gone:
                continue  # removed between the list and the look
        return tuple(found)

    def _change(
        self,
        container_id: str,
        verb: str,
        *,
        params: Mapping[str, str] | None = None,
        body: msgspec.Struct | None = None,
        more_s: float = 0.0,
    ) -> Applied:
        self.container(container_id)
        return self.post(f"/containers/{container_id}/{verb}", body, params=params, more_s=more_s)

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: msgspec.Struct | None = None,
        more_s: float = 0.0,
        api: tuple[int, int] | None = None,
    ) -> requests.Response:
        import requests

        reads = method == "GET"
        prefix = self._prefix if api is None else f"/v{api[0]}.{api[1]}"
        limit_s = (self._timeout_s if reads else max(WRITE_S, self._timeout_s)) + more_s
        self._knock()
        try:
            answer: requests.Response = self._client.request(
                method,
                f"{self._client.base_url}{prefix}{path}",
                params=dict(params or {}),
                data=None if body is None else msgspec.json.encode(body),
                # A connection each: one kept open from before a restart of the engine would make a request that was
                # never sent look like one of unknown outcome.
                headers={"Content-Type": "application/json", "Connection": "close"},
                timeout=(self._timeout_s, limit_s),
                allow_redirects=False,
            )
        except (requests.ConnectTimeout, requests.ReadTimeout) as error:
            said = f"the Docker engine at {self.url} did not answer within {limit_s:g} s ({method} {path})"
            raise (Unreachable(said) if reads else OutcomeUnknown(said)) from error
        except requests.RequestException as error:
            raise self._trouble(error, method, path) from error
        self._check(answer, method, path)
        return answer

    def _knock(self) -> None:
        """The SDK leaves a socket open that could not be connected, and hides why. So nothing is sent to one that
        does not take connections. Raises EngineAbsent, EngineDenied, Unreachable."""
        if not self.url.startswith("unix://"):
            return
        try:
            with socket.socket(socket.AF_UNIX) as knock:
                knock.settimeout(self._timeout_s)
                knock.connect(self.url.removeprefix("unix://"))
        except PermissionError as error:
            raise denied(self.url) from error
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            raise absent(self.url, error) from error
        except OSError as error:
            raise Unreachable(f"the Docker engine at {self.url} takes no connection: {error}") from error

    def _trouble(self, error: Exception, method: str, path: str) -> Unreachable | OutcomeUnknown:
        cause = cause_of(error)
        if isinstance(cause, ConnectionRefusedError):
            return absent(self.url, cause)
        said = f"the Docker engine at {self.url} hung up ({method} {path}): {cause}"
        return Unreachable(said) if method == "GET" else OutcomeUnknown(said)

    def _check(self, answer: requests.Response, method: str, path: str) -> None:
        status = answer.status_code
        if status < 400:
            return
        said = f"{_message(answer)} ({method} {path} on {self.url})"
        if status == 404:
            raise Gone(said)
        if status == 409:
            raise Conflict(said)
        if status in (502, 503, 504):
            raise Unreachable(said) if method == "GET" else OutcomeUnknown(said)
        raise Rejected(said)


class _Row(msgspec.Struct, frozen=True, rename="pascal"):
    id: str
    created: int = 0


class _Exec(msgspec.Struct, frozen=True, rename="pascal"):
    cmd: tuple[str, ...]
    attach_stdout: bool = True
    attach_stderr: bool = True


class _Start(msgspec.Struct, frozen=True, rename="pascal"):
    detach: bool = False
    tty: bool = False


class _Made(msgspec.Struct, frozen=True, rename="pascal"):
    id: str


class _Done(msgspec.Struct, frozen=True, rename="pascal"):
    running: bool = False
    exit_code: int | None = None


class _Error(msgspec.Struct, frozen=True):
    message: str = ""


def _client(url: str, timeout_s: float) -> APIClient:
    """The SDK's client, which has made no request yet. Raises UsageError where its certificates cannot be used."""
    import docker

    files = tls_files(url)
    tls: Any = False
    if files is not None:
        try:
            pair = (files.cert, files.key) if files.cert and files.key else None
            tls = docker.tls.TLSConfig(client_cert=pair, ca_cert=files.ca, verify=files.verify)
        except docker.errors.DockerException as error:
            raise Refused(f"the certificates for the Docker engine {url} cannot be used: {error}") from error
    # The version is ours to negotiate: left to itself the SDK takes the engine's highest, whatever that may mean.
    text = ".".join(map(str, LOWEST_API))
    client = docker.APIClient(base_url=url.replace("https://", "tcp://"), version=text, timeout=timeout_s, tls=tls)
    client.trust_env = False  # no proxy variable may lead a request elsewhere
    return client


def _api(version: Version, url: str) -> str:
    """The version of the API to speak. Raises EngineTooOld."""
    highest, lowest = _pair(version.api_version), _pair(version.min_api_version)
    if highest < LOWEST_API:
        raise EngineTooOld(
            f"the Docker engine {version.version} at {url} speaks API {version.api_version or 'of no version'}; "
            f"{'.'.join(map(str, LOWEST_API))} is needed",
            hint="Docker Engine 20.10 or later",
        )
    if lowest > HIGHEST_API:
        raise EngineTooOld(
            f"the Docker engine {version.version} at {url} speaks no API below {version.min_api_version}; this harness"
            f" knows {'.'.join(map(str, HIGHEST_API))}",
            hint="use a newer harness",
        )
    return ".".join(map(str, min(highest, HIGHEST_API)))


def _pair(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _message(answer: requests.Response) -> str:
    try:
        said = msgspec.json.decode(answer.content, type=_Error).message
    except (msgspec.DecodeError, msgspec.ValidationError):
        said = answer.text[:200]
    return said.strip() or f"HTTP {answer.status_code}"


def _json(value: Mapping[str, list[str]]) -> str:
    return msgspec.json.encode(value).decode()
