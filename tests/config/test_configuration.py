"""harness.toml: what is in it arrives, and whatever is wrong in it is told in one line with its key path."""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from pathlib import Path

import pytest

from harness.adapters.processes.start_command import start_command
from harness.config.file import AlertsTable, ComposeTable, Contained, TargetTable, ToxiproxyTable, VersionTable
from harness.config.load import MAX_BYTES, chosen, find
from harness.dependencies.configuration import load, parse
from harness.dependencies.kafka import KafkaTable
from harness.dependencies.postgres import PostgresTable
from harness.dependencies.redis import RedisTable
from harness.dependencies.registry import tables
from harness.model.errors import UsageError
from harness.model.records.alerts import AlertsPlan
from harness.stack.external.stack import ExternalStack

GOOD = """
[target]
url = "http://127.0.0.1:8000/"
"""


def config(folder: Path, text: str) -> Path:
    path = folder / "harness.toml"
    path.write_text(text)
    return path


def test_everything_arrives_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    found = load(
        config(
            tmp_path,
            """
[target]
name = "shop"
url = "https://127.0.0.1:8443/base/"
metrics = ""
health = "/ok"
workers = 4
pid_file = "run/shop.pid"
start = ["./serve", "--port", "8443"]
cwd = "app"
log = "/var/log/shop.log"

[toxiproxy]
url = "http://127.0.0.1:8474"
seen_as = ["172.18.0.5"]

[dependencies.redis]
kind = "redis"
proxy = "redis"
direct = "127.0.0.1:6379"
password_env = "REDIS_PASSWORD"
allow = ["flush"]

[dependencies.orders_db]
kind = "postgres"
direct = "[::1]:5432"
login = "user=app dbname=app"

[dependencies.events]
kind = "kafka"
proxy = "kafka"
direct = "127.0.0.1:9092"

[run]
scenario = "baseline"
scale = 0.1
fault = ["redis-down"]
strict = true

[targets]
primary = ["p95 < 150ms"]
secondary = ["p99 < 1s", "~p50 < 20ms"]
""",
        )
    )
    assert found.target is not None and found.target.url == "https://127.0.0.1:8443/base"
    assert found.target.pid_file == str(tmp_path / "run" / "shop.pid")
    assert found.target.start == (str(tmp_path / "serve"), "--port", "8443")
    assert (found.target.cwd, found.target.log) == (str(tmp_path / "app"), "/var/log/shop.log")
    redis, database, events = found.dependencies.values()
    assert isinstance(redis, RedisTable) and redis.allow == ("flush",) and redis.password_env == "REDIS_PASSWORD"
    assert isinstance(database, PostgresTable) and database.direct == "[::1]:5432"
    assert isinstance(events, KafkaTable)
    assert found.run == {"scenario": "baseline", "scale": 0.1, "fault": ("redis-down",), "strict": True}
    assert found.target_texts == ("p95 < 150ms", "~p99 < 1s", "~p50 < 20ms")


def test_where_traces_are_read(tmp_path: Path) -> None:
    url = "https://tempo.example:3200/explore?q=%7B%22a%22%7D&id={trace_id}#x"
    assert load(config(tmp_path, f'[report]\ntrace_url = "{url}"\n')).report.trace_url == url
    assert load(config(tmp_path, GOOD)).report.trace_url == ""


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert({trace_id})",
        "https://tempo.example/trace/",
        "https://{trace_id}.example/",
        "https://tempo.example/<{trace_id}>",
        "https://tempo.example/a b/{trace_id}",
        "//tempo.example/{trace_id}",
        "https://tempo.example/{trace_id}\\n",
        "https://tempo.example/{trace_id}{other}",
        "https://me@tempo.example/{trace_id}",
    ],
)
def test_a_link_is_refused_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match=r"report\.trace_url: an http or https URL with \{trace_id\}"):
        load(config(tmp_path, f'[report]\ntrace_url = "{url}"\n'))


ALERTS = """
[alerts]
prometheus = "http://127.0.0.1:9090/"
alertmanager = "https://[::1]:9093/am"
webhook = "[::1]:9099"
expected = ["ServiceDown", "Service slow (p95)"]
"""


def test_alerts_are_declared_without_a_target(tmp_path: Path) -> None:
    assert load(config(tmp_path, ALERTS)).alerts == AlertsPlan(
        prometheus="http://127.0.0.1:9090",
        alertmanager="https://[::1]:9093/am",
        webhook="[::1]:9099",
        expected=("ServiceDown", "Service slow (p95)"),
    )
    assert load(config(tmp_path, GOOD)).alerts is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "alerts: where are alerts to be seen"),
        ('expected = ["A"]', "alerts: where are alerts to be seen"),
        ('prometheus = "127.0.0.1:9090"', "alerts.prometheus: an http or https URL is wanted"),
        ('prometheus = "http://u:p@127.0.0.1"', "alerts.prometheus: a password does not belong in this file"),
        ('alertmanager = "http://h/?q=1"', "alerts.alertmanager: no query"),
        ('webhook = "9099"', "alerts.webhook: '9099' is no address"),
        ('webhook = "0.0.0.0:9099"', "alerts.webhook: 0.0.0.0 is no loopback address"),
        ('webhook = "localhost:9099"', "alerts.webhook: localhost is no loopback address"),
        ('webhook = "127.0.0.1:9099"\nexpected = "A"', "alerts.expected: expected a list"),
        ('webhook = "127.0.0.1:9099"\nexpected = [""]', "alerts.expected[0]: '' cannot be the name"),
        ('webhook = "127.0.0.1:9099"\nexpected = ["a{b}"]', "cannot be the name of an alert"),
        ('webhook = "127.0.0.1:9099"\nexpected = ["A", "A"]', "alerts.expected[1]: 'A' is there already"),
        ('prometeus = "http://127.0.0.1"', "alerts: unknown key"),
        ("prometheus = 9090", "alerts.prometheus: expected"),
    ],
)
def test_what_is_wrong_with_alerts_is_told_by_its_key(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        load(config(tmp_path, f"[alerts]\n{line}\n"))
    assert says in str(error.value) and "\n" not in str(error.value)


DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_documented_file_is_complete_and_loads() -> None:
    """Every key of every table is in the example, so that a reader finds it there."""
    found = load(DOCS / "examples" / "harness.toml")
    written = tomllib.loads((DOCS / "examples" / "harness.toml").read_text())
    containers = set(Contained.__struct_fields__)  # they have a page of their own, see below
    assert set(written["target"]) == set(TargetTable.__struct_fields__) - containers
    assert set(written["toxiproxy"]) == set(ToxiproxyTable.__struct_fields__) - containers
    assert set(written["alerts"]) == set(AlertsTable.__struct_fields__)
    everything = {key for table in written["dependencies"].values() for key in table}
    for type_ in tables().values():
        own = set(type_.__struct_fields__) - {"cwd", "log"} - containers  # shown for the target
        own -= {"allow_flush", "front_service"}  # a former spelling, and one that is about containers, too
        assert own <= everything, type_
    assert {type(table) for table in found.dependencies.values()} == set(tables().values())
    declared = ExternalStack("http://127.0.0.1:8000", configuration=found).describe()
    names = " ".join(one.name for one in declared)
    assert names == "redis db shop events sessions mq payments geo api"
    assert all(one.external for one in declared) and declared[-1].target and declared[-1].startable


def test_the_documented_compose_project_is_complete_and_loads() -> None:
    """Every key about containers is in it, some behind a comment sign because they stand for one another."""
    file = DOCS / "examples" / "own-compose" / "harness.toml"
    found = load(file)
    for type_ in (Contained, ComposeTable):
        for key in type_.__struct_fields__:
            assert re.search(rf"^(# )?{key} = ", file.read_text(), re.MULTILINE), key
    declared = ExternalStack("http://127.0.0.1:8000", configuration=found).describe()
    assert [(one.name, one.runtime, one.container.project, one.container.service) for one in declared] == [
        ("redis", "container", "own-compose", "redis"),
        ("app", "container", "own-compose", "app"),
    ]
    assert declared[0].ignore_clients == ("redis_exporter",) and declared[0].startable
    # What stands behind a comment sign is right as well.
    short = re.sub(r'^(service = "redis"|file = ).*$', "", file.read_text(), flags=re.MULTILINE)
    text = re.sub(r"^# (?=\w+ = )", "", short, flags=re.MULTILINE)
    assert load(config(Path(tempfile.mkdtemp()), text)).dependencies["redis"].container == "shop-redis-1"


def test_versions_arrive_with_paths_relative_to_the_file(tmp_path: Path) -> None:
    page = (DOCS / "configuration.md").read_text().split("[versions.candidate]")[1].split("```")[0]
    found = load(config(tmp_path, f"[versions.candidate]{page}")).versions
    assert found["candidate"] == VersionTable(host="http://127.0.0.1:8001")
    assert found["next"] == VersionTable(
        start=(str(tmp_path / "serve-next"), "--port", "{port}"),
        cwd=str(tmp_path / "next"),
        log=str(tmp_path / "next.log"),
    )
    assert found["slow"] == VersionTable(env={"ANOMALY_API_DEFECT": "sync-kafka"})


def test_the_short_file_of_the_page_loads(tmp_path: Path) -> None:
    text = (DOCS / "configuration.md").read_text().split("```toml\n")[1].split("```")[0]
    assert set(load(config(tmp_path, text)).dependencies) == {"redis"}


REDIS = GOOD + '[toxiproxy]\nurl = "http://127.0.0.1:8474"\n[dependencies.redis]\nkind = "redis"\n'
POSTGRES = GOOD + '[dependencies.db]\nkind = "postgres"\ndirect = "127.0.0.1:5432"\n'
FRONT = GOOD + '[dependencies.f]\nkind = "http"\nfront = "http://127.0.0.1:9901"\n'

BAD: list[tuple[str, str, str]] = [
    # the text, what the message says, what the hint says
    ("[target\n", "not TOML: ", ""),
    ("[taget]\n", "unknown table 'taget'", "did you mean 'target'?"),
    ("target = 3\n", "target is a table", "[target]"),
    ("[target]\n", "target.url is missing", ""),
    ('[target]\nurl = "127.0.0.1:8000"\n', "target.url: an http or https URL is wanted", "http://"),
    ('[target]\nurl = "http://127.0.0.1:99999"\n', "target.url: ", "http://"),
    ('[target]\nurl = "http://me:hunter2@127.0.0.1"\n', "target.url: a password does not belong", "password_env"),
    ("[target]\nurl = 8000\n", "target.url: expected a text, got a whole number", ""),
    (GOOD + 'helth = "/ok"\n', "target: unknown key 'helth'", "did you mean 'health'?"),
    (GOOD + 'health = "ok"\n', "target.health: a path that begins with /", "/health"),
    (GOOD + "workers = 0\n", "target.workers: 0", "from 1"),
    (GOOD + 'workers = "four"\n', "target.workers: expected a whole number", ""),
    (GOOD + 'name = "My API"\n', "target.name: 'My API'", "small letters"),
    (GOOD + 'start = ["./serve"]\n', "target.start needs target.pid_file", ""),
    (GOOD + 'start = "./serve"\npid_file = "x"\n', "target.start: expected a list", ""),
    (GOOD + 'start = []\npid_file = "x"\n', "target.start: a program", "start = "),
    (GOOD + 'cwd = "x"\n', "target.cwd", ""),
    (GOOD + '[toxiproxy]\nurl = "https://127.0.0.1:8474"\n', "toxiproxy.url: an http URL is wanted", ""),
    (GOOD + '[toxiproxy]\nurl = "http://127.0.0.1:8474/proxies"\n', "toxiproxy.url: ", "HOST:PORT"),
    (GOOD + '[dependencies.Redis]\nkind = "redis"\n', "dependencies.Redis: 'Redis'", "small letters"),
    (GOOD + '[dependencies]\nredis = "127.0.0.1:6379"\n', "dependencies.redis is a table", "[dependencies.redis]"),
    (
        GOOD + '[dependencies.redis]\ndirect = "127.0.0.1:6379"\n',
        "dependencies.redis.kind is missing",
        "postgres, rabbitmq, redis, tcp",
    ),
    (GOOD + '[dependencies.c]\nkind = "reddis"\n', "dependencies.c.kind: unknown kind 'reddis'", "'redis'?"),
    (GOOD + "[dependencies.c]\nkind = 7\n", "dependencies.c.kind: unknown kind '7'", "known"),
    (REDIS + 'proxy = "redis"\n', "dependencies.redis.direct is missing", "direct ="),
    (REDIS + 'direct = "127.0.0.1"\n', "dependencies.redis.direct: '127.0.0.1' is no address", "HOST:PORT"),
    (REDIS + 'direct = "127.0.0.1:70000"\n', "dependencies.redis.direct: ", "HOST:PORT"),
    (REDIS + 'direct = "redis://127.0.0.1:6379"\n', "dependencies.redis.direct: ", "HOST:PORT"),
    (REDIS + 'direct = "127.0.0.1:6379"\npasword_env = "X"\n', "unknown key 'pasword_env'", "password_env"),
    (
        REDIS + 'direct = "127.0.0.1:6379"\nlogin = "user=x"\n',
        "dependencies.redis.login belongs to kind mariadb or mysql or postgres",
        "",
    ),
    (REDIS + 'direct = "127.0.0.1:6379"\nproxy = "a/b"\n', "dependencies.redis.proxy: 'a/b'", ""),
    (REDIS + 'password = "hunter2"\n', "dependencies.redis.password: a secret does not belong", "password_env"),
    (REDIS + 'direct = "127.0.0.1:6379"\npassword_env = "hunter2!"\n', "password_env: the *name* of", "REDIS_"),
    (GOOD + '[dependencies.p]\nkind = "tcp"\n', "dependencies.p: where is it?", "proxy"),
    (FRONT, "dependencies.f.path is missing: where the front listens", "path ="),
    (FRONT + 'path = "h:1"\nfront_name = "A b"\n', "front_name: 'A b' cannot be the name of a front", "small letters"),
    (FRONT.replace("9901", "9901/x") + 'path = "h:1"\n', "f.front: Envoy's admin interface has no path", "HOST:PORT"),
    (FRONT.replace("http:", "https:") + 'path = "h:1"\n', "f.front: an http URL is wanted", "9901"),
    (
        FRONT + 'path = "h:1"\nfront_service = "envoy"\n',
        "f: front and front_service are two ways to name one Envoy",
        "out",
    ),
    (
        GOOD + '[dependencies.f]\nkind = "http"\npath = "h:1"\nfront_service = "envoy"\n',
        "f.front_service: of which compose project?",
        "compose.yaml",
    ),
    (
        GOOD + '[dependencies.f]\nkind = "http"\npath = "h:1"\nfront_service = "a b"\n',
        "f.front_service: 'a b' cannot be the name of a compose service",
        "",
    ),
    (GOOD + '[dependencies.f]\nkind = "http"\ndirect = "h:1"\nfront_name = "f"\n', "f.front_name without front", ""),
    (GOOD + '[dependencies.p]\nkind = "tcp"\nfront = "http://h:1"\n', "p.front belongs to kind http", ""),
    (GOOD + '[dependencies.p]\nkind = "tcp"\nproxy = "p"\n', "dependencies.p.proxy: which Toxiproxy?", "[toxiproxy]"),
    (GOOD + '[dependencies.api]\nkind = "tcp"\ndirect = "h:1"\n', "dependencies.api: the target is called", "name"),
    (POSTGRES, "dependencies.db.login is missing", "user=app"),
    (POSTGRES + 'login = "user=a password=hunter2"\n', "dependencies.db.login: a password", "password_env"),
    (POSTGRES + 'login = "user=a"\nadmin = "postgresql://b:hunter2@h/d"\n', "dependencies.db.admin: a pass", "_env"),
    (POSTGRES + 'login = "user=a"\nprobe_password_env = "X"\n', "has no probe_login", ""),
    ('[dependencies.p]\nkind = "tcp"\ndirect = "h:1"\n', "target is missing", "[target]"),
    (GOOD + 'pid_file = "x"\nstart = ["serve", "--password=hunter2"]\n', "target.start[1]: a password", "_env"),
    (GOOD + "[run]\nfault = [1]\n", "run.fault: a list of texts", ""),
    (GOOD + "[run]\nfault = { a = 1 }\n", "run.fault: a text, a number", ""),
    (GOOD + '[targets]\nprimary = ["p95 <"]\n', "targets.primary[0]: target 'p95 <'", ""),
    (GOOD + '[targets]\nprimary = ["~p95 < 1s"]\n', "targets.primary[0]: `~` marks a secondary", "move"),
    (GOOD + '[targets]\nsecondary = ["p95 < 1s", "p59 < 1s"]\n', "targets.secondary[1]: ", ""),
    (GOOD + "[targets]\nprimary = [1]\n", "targets.primary[0]: expected a text", ""),
    ("versions = 3\n", "versions is a table", "[versions]"),
    ("[versions]\nnew = 3\n", "versions.new is a table", "[versions.new]"),
    ("[versions.New]\nenv = {}\n", "versions.New: 'New' cannot be the name of a version", "small letters"),
    ("[versions.new]\n", "versions.new: what tells it from the target is one of host, start and env", "host ="),
    ('[versions.new]\nhost = "http://h"\nstart = ["x", "{port}"]\n', "versions.new: what tells it", "{port}"),
    ('[versions.new]\nhost = "http://h"\nenv = {}\n', "versions.new: what tells it", "env"),
    ('[versions.new]\nhots = "http://h"\n', "versions.new: unknown key 'hots'", "did you mean 'host'?"),
    ('[versions.new]\nhost = "h:1"\n', "versions.new.host: an http or https URL is wanted", "http://"),
    ('[versions.new]\nhost = "http://me:hunter2@h"\n', "versions.new.host: a password does not belong", "_env"),
    ('[versions.new]\nstart = ["./serve"]\n', "versions.new.start: a program and its arguments", "{port}"),
    ("[versions.new]\nstart = []\n", "versions.new.start: a program and its arguments", "{port}"),
    ('[versions.new]\nenv = {}\ncwd = "x"\n', "versions.new: cwd and log are of what `start` runs", ""),
    ("[versions.new]\nenv = { A = 1 }\n", "versions.new.env[...]: expected a text", ""),
    ('[versions.new]\nenv = { ANOMALY_API_PASSWORD = "hunter2" }\n', "ANOMALY_API_PASSWORD: a secret does not", "_env"),
]


@pytest.mark.parametrize(("text", "says", "hint"), BAD, ids=[says for _, says, _ in BAD])
def test_what_is_wrong_is_told_in_one_line(
    text: str, says: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as raised:
        load(config(tmp_path, text))
    message = str(raised.value)
    assert message.startswith("harness.toml: ") and says in message, message
    assert hint in (raised.value.hint or ""), raised.value.hint
    assert "\n" not in message and "\n" not in (raised.value.hint or "")
    assert "hunter2" not in message + (raised.value.hint or "")


def test_two_dependencies_cannot_share_a_proxy(tmp_path: Path) -> None:
    second = '[dependencies.b]\nkind = "tcp"\nproxy = "redis"\n'
    with pytest.raises(UsageError, match=r"dependencies\.b\.proxy: 'redis' is the proxy of dependencies\.redis"):
        load(config(tmp_path, REDIS + 'proxy = "redis"\ndirect = "127.0.0.1:6379"\n' + second))


def test_the_file_of_the_folder_is_found_and_none_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config(tmp_path, GOOD)
    below = tmp_path / "below"
    below.mkdir()
    assert find(tmp_path) == tmp_path / "harness.toml"
    monkeypatch.chdir(below)
    assert chosen(None) is None
    assert chosen("../harness.toml") is not None


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    config(tmp_path, GOOD)
    with pytest.raises(UsageError, match="no such file"):
        chosen(str(tmp_path / "other.toml"))
    with pytest.raises(UsageError, match="no such file") as raised:
        chosen(str(tmp_path))
    assert "harness.toml" in (raised.value.hint or "")


def test_somebody_elses_file_is_used_only_when_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    assert chosen(None) is not None
    path.chmod(0o666)
    with pytest.raises(UsageError, match="may be written by everybody") as raised:
        chosen(None)
    assert raised.value.hint == "if you trust it, name it: --config harness.toml"
    assert chosen("harness.toml") is not None
    if os.geteuid() == 0:
        path.chmod(0o644)
        os.chown(path, 12345, -1)
        with pytest.raises(UsageError, match=r"belongs to another user \(uid 12345\)"):
            chosen(None)


def test_what_is_no_configuration_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "harness.toml"
    path.write_bytes(b"# " + b"x" * MAX_BYTES)
    with pytest.raises(UsageError, match="over 1 MB"):
        load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not TOML"):
        load(path)


STARTS = GOOD + 'pid_file = "a.pid"\nstart = ["./serve", "--fast"]\nlog = "a.log"\n'


def test_the_start_command_comes_from_the_file_that_was_planned_with(tmp_path: Path) -> None:
    found = load(config(tmp_path, STARTS))
    command = start_command(found.path, found.sha256, "api")
    assert command.argv == (str(tmp_path / "serve"), "--fast")
    assert (command.cwd, command.log) == (str(tmp_path), str(tmp_path / "a.log"))


def test_a_changed_file_starts_nothing(tmp_path: Path) -> None:
    found = load(config(tmp_path, STARTS))
    config(tmp_path, STARTS.replace("--fast", "--slow"))
    with pytest.raises(UsageError, match="has changed since the run was planned") as raised:
        start_command(found.path, found.sha256, "api")
    assert "by hand" in (raised.value.hint or "")


def test_a_file_that_is_gone_or_has_no_command_is_told(tmp_path: Path) -> None:
    found = load(config(tmp_path, STARTS))
    with pytest.raises(UsageError, match="no start command for db"):
        start_command(found.path, found.sha256, "db")
    (tmp_path / "harness.toml").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        start_command(found.path, found.sha256, "api")


@pytest.mark.parametrize(
    "start",
    [
        ["redis-server", "--requirepass", "hunter2"],
        ["redis-server", "--redis.requirepass=hunter2"],
        ["env", "PASS=hunter2", "serve"],
        ["env", "MYSQL_PWD=hunter2", "serve"],
        ["serve", "--password=hunter2"],
        ["serve", "--db-password", "hunter2"],
        ["serve", "--api-key", "hunter2"],
        ["java", "-DdbPassword=hunter2"],
        ["sh", "-c", "PASS=hunter2 exec serve"],
        ["sh", "-c", "redis-server --requirepass 'hunter2'"],
        ["serve", "redis://me:hunter2@cache/0"],
        ["serve", "redis://me:hun/hunter2@cache/0"],
    ],
)
def test_a_password_in_a_start_line_is_refused_and_not_repeated(tmp_path: Path, start: list[str]) -> None:
    text = f'[target]\nurl = "http://127.0.0.1:1"\npid_file = "x.pid"\nstart = {json.dumps(start)}\n'
    with pytest.raises(UsageError, match=r"target\.start\[\d\]: a password does not belong") as caught:
        parse(text.encode(), tmp_path / "harness.toml")
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "start",
    [
        ["serve", "--pass-through", "all"],
        ["serve", "--password-file", "secret.txt"],
        ["serve", "--bypass=1", "--compass=2", "--tokens=5"],
        ["sh", "-c", "redis-server --requirepass $REDIS_PASSWORD"],
        ["sh", "-c", 'redis-server --requirepass "$REDIS_PASSWORD"'],
        ["env", "PASSWORD_FILE=/run/secret", "serve"],
        ["redis-server", "--requirepass", ""],
    ],
)
def test_what_only_looks_like_a_password_is_taken(tmp_path: Path, start: list[str]) -> None:
    text = f'[target]\nurl = "http://127.0.0.1:1"\npid_file = "x.pid"\nstart = {json.dumps(start)}\n'
    found = parse(text.encode(), tmp_path / "harness.toml").target
    assert found is not None and found.start == tuple(start)


@pytest.mark.parametrize("url", ["http://me:hunter2@h", "http://me:hun/hunter2@h", "http://me:1/hunter2@h:2"])
def test_a_url_with_a_password_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match="password") as caught:
        parse(f'[target]\nurl = "{url}"\n'.encode(), tmp_path / "harness.toml")
    assert "hunter2" not in str(caught.value)


def test_requests_that_may_fail_with_a_dependency_are_read(tmp_path: Path) -> None:
    text = """
[target]
url = "http://127.0.0.1:8000/"

[toxiproxy]
url = "http://127.0.0.1:8474"

[dependencies.redis]
kind = "redis"
proxy = "redis"
direct = "127.0.0.1:6379"

[requests."POST /checkout"]
may_fail_with = ["redis"]
"""
    assert load(config(tmp_path, text)).may_fail_with == {"POST /checkout": ("redis",)}
    with pytest.raises(UsageError, match="unknown dependency 'rediss'"):
        load(config(tmp_path, text.replace('["redis"]', '["rediss"]')))
    free = text.replace("may_fail_with", "independent_of")
    assert load(config(tmp_path, free)).independent_of == {"POST /checkout": ("redis",)}
    assert load(config(tmp_path, free)).may_fail_with == load(config(tmp_path, text)).independent_of == {}
    with pytest.raises(UsageError, match="unknown dependency 'rediss'"):
        load(config(tmp_path, free.replace('["redis"]', '["rediss"]')))
    with pytest.raises(UsageError, match="independent_of: 'redis' is in may_fail_with, too"):
        load(config(tmp_path, text + 'independent_of = ["redis"]\n'))
