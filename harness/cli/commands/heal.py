"""`harness heal`: the keeper's healing, in the foreground."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.settings import allow_host_option, debug_option

if TYPE_CHECKING:
    from harness.model.records.faults import HealReport


@click.command()
@click.argument("run_dir", required=False, type=click.Path(path_type=Path))
@click.option("--all", "all_", is_flag=True, help="Every run that died on this machine.")
@click.option("--toxiproxy", metavar="URL", help="Look at a Toxiproxy without any journal; with --steal clear it.")
@click.option("--steal", is_flag=True, help="Remove its lock and every toxic named harness-*, and nothing else.")
@allow_host_option("Allow a Toxiproxy that is not on loopback.")
@click.option("--quiet", "-q", is_flag=True, help="Only what is left, if anything.")
@debug_option
def heal(
    run_dir: Path | None,
    all_: bool,
    toxiproxy: str | None,
    steal: bool,
    allow_hosts: tuple[str, ...],
    quiet: bool,
) -> int:
    """Undo what an interrupted run left behind: faults, processes, temporary folders.

    RUN_DIR is the run's directory, its name, or its state folder. Without one, list the runs that left something.
    Safe to repeat: what is undone already, or was repaired by somebody, is left as it is. It reads the journal that
    the run wrote before each change and verifies every undo on the running system. Exit code 5 says that something
    is left and how to mend it.

    Only the journals in your own state directory are acted on. Of a run directory that came from elsewhere the journal
    is shown, and nothing is done by it.

    Where the journal is lost with its machine, --toxiproxy URL shows what harnesses have left on a Toxiproxy, and
    --steal removes it.
    """
    from harness.model.errors import HarnessError, UsageError
    from harness.safety.healing.dead_run import heal_all, heal_run
    from harness.safety.state_folders import find_active, known
    from harness.stack import registry

    def say(text: str) -> None:
        if not quiet:
            _show(text, err=True)

    if toxiproxy is not None:
        if run_dir is not None or all_:
            raise UsageError("--toxiproxy needs no run: it works without a journal")
        return _clear(toxiproxy, steal, allow_hosts, quiet)
    if steal or allow_hosts:
        raise UsageError("--steal and --allow-host go with --toxiproxy URL")
    with suppress(HarnessError):
        registry.read()  # the password of a Valkey that is kept up: healing a run on it probes it
    if run_dir is not None and all_:
        raise UsageError("name one run, or --all", hint="harness heal --all heals every run that died")
    if all_:
        healed = heal_all(say)
    elif run_dir is not None:
        folder = known(run_dir.resolve().name)
        if folder is None:
            return _tell(run_dir)
        healed = [heal_run(folder, say)]
    else:
        left = find_active()
        for item in left:
            what = ", ".join((*item.pending, *item.servers, *item.locks)) or item.trouble or "a temporary folder"
            _show(f"{item.folder.name} ({item.host}, since {item.since}): {what}")
        if not left:
            _show("nothing is left of any run")
            return 0
        raise UsageError("name one of these runs, or --all")
    for one in healed:
        _print(one, quiet)
    if not healed and not quiet:
        _show("nothing is left of any run")
    return 5 if any(one.left for one in healed) else 0


def _clear(url: str, steal_it: bool, allow_hosts: tuple[str, ...], quiet: bool) -> int:
    """Look at one Toxiproxy, and clear it when told to."""
    from harness.adapters.allowed_hosts import TOXIPROXY_PORT, check_address, url_address
    from harness.model.errors import AdapterError, Refused, UsageError
    from harness.model.records.faults import Address
    from harness.safety.locks.steal import advice, look, steal

    host, port = url_address(url, TOXIPROXY_PORT)
    try:
        address = check_address(host, port, (), allow_hosts=allow_hosts)[0]
    except Refused:
        address = check_address(host, port, _configured(host), allow_hosts=allow_hosts)[0]
    try:
        found = look(f"http://{Address(address, port)}" if url.startswith("http://") else url)
    except AdapterError as error:
        raise UsageError(f"--toxiproxy {url}: {error}", hint="http://HOST:PORT of its API") from error
    if found.nothing:
        if not quiet:
            _show(f"{found.url}: no lock and no toxic of a harness")
        left: list[str] = []
    elif not steal_it:
        if found.lock is not None:
            _show(f"{found.url}: locked by {str(found.holder or '') or repr(found.lock)}")
        for proxy, toxic in found.toxics:
            _show(f"{found.url}: the toxic {toxic} is on proxy {proxy}")
        _show(f"this removes them: harness heal --toxiproxy {found.url} --steal")
        left = []
    else:
        left = steal(found, lambda text: None if quiet else _show(f"{found.url}: {text}"))
    for line in advice(found):
        _show(f"{found.url}: {line}")
    for line in left:
        _show(f"{found.url}: LEFT: {line}")
    return 5 if left else 0


def _configured(host: str) -> tuple[str, ...]:
    """The host itself when harness.toml names it as its Toxiproxy's: a private address may be used then."""
    from harness.adapters.allowed_hosts import url_address
    from harness.config.load import chosen
    from harness.dependencies.configuration import load

    path = chosen(None)
    config = load(path) if path is not None else None
    if config is None or config.toxiproxy is None or config.toxiproxy.url is None:
        return ()
    named, _ = url_address(config.toxiproxy.url, 8474)
    return (host,) if named == host else ()


def _tell(run_dir: Path) -> int:
    """A run that the state directory does not know: show what its own journal says, and do nothing by it."""
    from harness.model.errors import UsageError
    from harness.model.paths import state_dir
    from harness.safety.healing.stranger import told
    from harness.safety.journal.log import JOURNAL, KEEPER

    try:
        if not any((run_dir / name).exists() for name in (JOURNAL, KEEPER, "plan.json")):
            raise UsageError(
                f"{run_dir} is no run's directory",
                hint="`harness heal` lists the runs that left something; --all heals them",
            )
        left = told(run_dir)
    except OSError as error:
        raise UsageError(f"{run_dir} cannot be read: {error.strerror or error}") from error
    name = run_dir.resolve().name
    _show(f"{name}: the state directory ({state_dir()}) knows nothing of this run, so nothing was done")
    if not left:
        _show(f"{name}: nothing is left, as its own journal tells")
        return 0
    _show(f"{name}: its journal, which may be anybody's, says that this is left; look before you type any of it:")
    for line in left:
        _show(f"{name}: TOLD: {line}")
    return 5


def _show(line: str, err: bool = False) -> None:
    """One line; what a server named or said may stand in it, so control characters are made visible."""
    from harness.report.sentences.text import visible

    click.echo(visible(line, 4000), err=err)


def _print(healed: HealReport, quiet: bool) -> None:
    name = Path(healed.folder).name
    if not quiet:
        for outcome in healed.outcomes:
            if outcome.state != "unverified":
                word = "undone and verified" if outcome.state == "verified" else "gone with what it was on"
                _show(f"{name}: {outcome.record_id}: {word}")
        if healed.stopped:
            _show(f"{name}: ended {', '.join(healed.stopped)}")
        for url in healed.unlocked:
            _show(f"{name}: unlocked {url}")
        for folder in healed.removed:
            _show(f"{name}: removed {folder}")
        if not (healed.outcomes or healed.stopped or healed.removed or healed.unlocked or healed.left):
            _show(f"{name}: nothing is left")
    for line in healed.left:
        _show(f"{name}: LEFT: {line}")
