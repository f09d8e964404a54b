"""What `harness init` proposes: what is read, what is refused, what is written and what is said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from harness.config.load import parse
from harness.dependencies.registry import kinds, tables
from harness.model.errors import UsageError
from harness.scaffold.compose_config import ComposeCommand, composed
from harness.scaffold.compose_proposal import ComposeProposal, compose_proposal
from tests.support.command import command

SHOP = """
services:
  web:
    build: .
    ports: ["8000:8000"]
    environment: {DATABASE_URL: "postgres://shop:s3cret@db/orders", REDIS_URL: "redis://:t0ken@redis:6379"}
    healthcheck: {test: ["CMD", "curl", "-f", "http://localhost:8000/healthz"]}
  db: {image: "postgres:16", environment: {POSTGRES_USER: owner, POSTGRES_PASSWORD: s3cret}}
  redis: {image: "redis:7", command: redis-server --requirepass t0ken}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("COMPOSE_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def no_compose(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("nothing")))


def of(text: str, **more: tuple[str, ...]) -> ComposeProposal:
    Path("compose.yaml").write_text(text)
    return compose_proposal(("compose.yaml",), **more)


def told(found: ComposeProposal, words: str) -> bool:
    return any(words in line for line in found.told)


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_what_is_written_plans_as_it_is_and_holds_no_secret(folder: Path) -> None:
    found = of(SHOP)
    assert set(found.files) == {"harness.toml", "locustfile.py", "harness.override.yaml", "harness.toxiproxy.json"}
    assert not any("s3cret" in text or "t0ken" in text for text in (*found.files.values(), *found.told))
    for name, text in found.files.items():
        (folder / name).write_text(text)
    config = parse(found.toml.encode(), folder / "harness.toml", tables())
    assert config.target is not None and config.target.health == "/healthz"
    assert config.run["rate"] == 20 and config.run["locustfile"] == "locustfile.py"
    assert "user=shop dbname=orders" in found.toml and 'password_env = "POSTGRES_PASSWORD"' in found.toml
    assert '\npassword_env = "REDIS_PASSWORD"' in found.toml
    done = command("plan", "--fault", "db-down", cwd=folder)
    assert done.returncode == 0 and "20 arrivals/s" in done.stdout and "db-down" in done.stdout, done.stderr


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_no_login_is_made_up_and_no_password_is_asked_for_that_is_not_there() -> None:
    found = of(
        "services:\n"
        '  web: {build: ., ports: ["8000:8000"], environment: {PGHOST: db, REDIS_HOST: redis}}\n'
        '  db: {image: "postgres:16", environment: {POSTGRES_HOST_AUTH_METHOD: trust}}\n'
        '  redis: {image: "redis:7"}\n'
    )
    assert "login = " not in [line[:8] for line in found.toml.splitlines()] and 'kind = "tcp"' in found.toml
    assert not any(line.startswith("password_env") for line in found.toml.splitlines())


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_a_kind_that_needs_more_than_is_seen_is_declared_as_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    redis = type(kinds()["redis"])
    monkeypatch.setattr(redis, "table_lines", lambda *_: ['unheard-of = "x"'])
    found = of(SHOP)
    assert 'kind = "tcp"              # "redis" needs what could not be seen' in found.toml
    assert parse(found.toml.encode(), Path("harness.toml"), tables()).dependencies["redis"].kind == "tcp"


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_a_password_is_called_as_the_project_s_files_call_it() -> None:
    Path(".env").write_text("DB_PASSWORD=s3cret\n")
    text = (
        "services:\n"
        '  web: {build: ., ports: ["8000:8000"], environment: {DATABASE_URL: "postgres://shop:${DB_PASSWORD}@db/shop"}}\n'
        '  db: {image: "postgres:16", environment: {POSTGRES_USER: shop, POSTGRES_PASSWORD: "%s"}}\n'
    )
    for written, name in (
        ("${DB_PASSWORD:-x}", "DB_PASSWORD"),
        ("$DB_PASSWORD", "DB_PASSWORD"),
        ("s3cret", "POSTGRES_PASSWORD"),
    ):
        found = of(text % written)
        assert f'password_env = "{name}"' in found.toml and "s3cret" not in found.toml


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_passwords_of_one_variable_s_name_that_differ_are_kept_apart() -> None:
    found = of(
        "services:\n"
        '  web: {build: ., ports: ["8000:8000"], environment: {DATABASE_URL: "postgres://a:1@db-a/a", B: "postgres://b:2@db-b/b"}}\n'
        '  db-a: {image: "postgres:16", environment: {POSTGRES_USER: a, POSTGRES_PASSWORD: "1"}}\n'
        '  db-b: {image: "postgres:16", environment: {POSTGRES_USER: b, POSTGRES_PASSWORD: "2"}}\n'
    )
    assert '"DB_A_PASSWORD"' in found.toml and '"DB_B_PASSWORD"' in found.toml


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_every_printed_command_has_the_files_and_profiles_that_compose_used(folder: Path) -> None:
    (folder / "compose.override.yaml").write_text("services: {web: {environment: {X: redis}}}\n")
    found = of(SHOP, profiles=("full",))
    words = "--profile full -f compose.yaml -f compose.override.yaml"
    assert found.up is not None and f"{words} -f harness.override.yaml up -d" in found.up
    assert found.down is not None and f"{words} up -d --remove-orphans" in found.down
    assert found.override is not None and found.up in found.override and found.down in found.override
    assert 'file = ["compose.yaml", "compose.override.yaml"]' in found.toml


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_a_project_that_is_fronted_already_gets_the_same_answer(folder: Path) -> None:
    first = of(SHOP.replace("    build: .\n", "    build: .\n    links: [redis]\n"))
    for name, text in first.files.items():
        (folder / name).write_text(text)
    again = compose_proposal(("compose.yaml", "harness.override.yaml")).files
    assert {**again, "locustfile.py": first.locustfile} == first.files and "locustfile.py" not in again
    with pytest.raises(UsageError, match="only the override"):
        compose_proposal(("harness.override.yaml",))


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_what_is_told_has_its_reason_and_is_not_told_without() -> None:
    found = of(
        SHOP + '  exporter: {image: "oliver006/redis_exporter:v1", environment: {REDIS_ADDR: "redis:6379"}}\n'
        '  mongo: {image: "mongo:7"}\n  debug: {image: x, profiles: [dev]}\n'
        "  reports: {build: r, environment: {CACHE_TYPE: redis}}\n"
    )
    assert told(found, "web reaches db (5432) through Toxiproxy: its setting DATABASE_URL names it")
    assert told(found, "exporter goes to redis directly: it is an exporter")
    assert told(found, "nothing shows that the application uses mongo")
    assert told(found, "debug is not looked at: it is in profile dev")
    assert told(found, "reports may use redis, for its setting CACHE_TYPE is that word: left alone")
    assert told(found, "takes the override")
    depending = of(SHOP + "  job: {build: j, depends_on: [redis]}\n")
    assert told(depending, "job would reach redis (6379) through Toxiproxy: it depends on it, and no setting shows how")
    led_off = of(SHOP.replace("    build: .\n", "    build: .\n    extra_hosts: ['db:10.1.2.3']\n"))
    assert told(led_off, "web does not mean db by db: its extra_hosts send db to 10.1.2.3") and not led_off.refused
    plain = of(SHOP)
    assert not told(plain, "would") and not told(plain, "does not mean")
    for words in (
        "directly",
        "nothing shows",
        "not looked at",
        "left alone",
        "second address",
        "not resolved",
        "not led",
    ):
        assert not told(plain, words), words


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_two_as_likely_targets_leave_the_key_empty_with_the_choices_beside_it() -> None:
    found = of(
        "services:\n"
        '  orders: {build: o, ports: ["8001:8000"], environment: {DB_HOST: db}}\n'
        '  users: {build: u, ports: ["8002:8000"], environment: {DB_HOST: db}}\n'
        '  db: {image: "mysql:8", ports: ["3306:3306"]}\n'
    )
    assert found.choice.service is None and told(found, "the target may be orders or users")
    assert 'url = ""' in found.toml and '# url = "http://127.0.0.1:8002"    # with: service = "users"' in found.toml


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_a_service_with_an_api_document_is_the_one_that_people_call(folder: Path) -> None:
    (folder / "users").mkdir()
    (folder / "users" / "openapi.yaml").write_text("openapi: 3.1.0\n")
    found = of(
        "services:\n"
        '  orders: {build: ./orders, ports: ["8001:8000"]}\n'
        '  users: {build: ./users, ports: ["8002:8000"]}\n'
    )
    assert found.choice.service is not None and found.choice.service.name == "users"


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_the_application_is_named_and_so_are_the_stores() -> None:
    found = of(SHOP, chosen=("redis",))
    assert [one.service.name for one in found.front.fronted] == ["redis"]
    for chosen, apps, words in (
        (("reddis",), (), "unknown service 'reddis'"),
        (("redis",), ("wob",), "--app: unknown service"),
        (("redis:x",), (), "'x' is no port"),
        (("redis:8474",), (), "8474 is that of Toxiproxy's API"),
        (("web",), (), "no service names it"),
    ):
        with pytest.raises(UsageError, match=words):
            of(SHOP, chosen=chosen, apps=apps)


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_compose_s_own_words_are_said_where_it_takes_the_files_not() -> None:
    with pytest.raises(UsageError, match=r"does not take it: .*undefined network"):
        of("services: {web: {image: x, networks: [nowhere]}}\n")
    with pytest.raises(UsageError, match="no service is active") as caught:
        of("services: {web: {image: x, profiles: [dev]}}\n")
    assert caught.value.hint == "--profile dev"


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
@pytest.mark.parametrize(
    "where", ["https://github.com/a/b.git", "git@github.com:a/b.git", "oci://registry.example.com/a"]
)
def test_nothing_is_fetched_from_another_machine(where: str) -> None:
    for text in (
        f"include: ['{where}']\nservices: {{web: {{image: x}}}}\n",
        f"include: [{{path: ['{where}']}}]\nservices: {{web: {{image: x}}}}\n",
        f"services: {{web: {{extends: {{file: '{where}', service: x}}}}}}\n",
    ):
        with pytest.raises(UsageError, match="which is on another machine"):
            of(text)
    Path("local.yaml").write_text(f"include: ['{where}']\n")
    with pytest.raises(UsageError, match="does not take it"):
        of("include: [local.yaml]\nservices: {web: {image: x}}\n")


@pytest.mark.usefixtures("no_compose")
def test_without_compose_the_files_alone_are_read_and_what_is_open_is_told(folder: Path) -> None:
    (folder / ".env").write_text("REDIS=redis\n")
    found = of(
        "include: [other.yaml]\n"
        "services:\n"
        '  web: {build: ., ports: ["8000:8000"], env_file: a, environment: {REDIS_HOST: "$REDIS", X: "${NOBODY}"}}\n'
        "  job: {extends: web}\n"
        '  redis: {image: "redis:7"}\n'
        '  debug: {image: x, profiles: [dev], environment: {Y: "$ALSO"}}\n'
    )
    assert told(found, "web reaches redis")
    for words in ("compose.yaml: include", "web: env_file", "job: extends", "web: $NOBODY is not set"):
        assert told(found, f"not resolved without Compose: {words}"), found.told
    assert told(found, "no Compose is here that could check the override") and not told(found, "$ALSO")


@pytest.mark.usefixtures("no_compose")
def test_what_only_a_newer_compose_can_do_is_refused_by_name_without_it() -> None:
    found = of(
        "services:\n"
        '  web: {build: ., ports: ["8000:8000"], links: [redis], environment: {A: "redis://a:6379", B: "redis://b:6379"}}\n'
        "  redis: {image: redis}\n  a: {image: redis}\n  b: {image: redis}\n"
    )
    why = {one.store: one.why for one in found.refused}
    assert "its link redis:redis can be replaced by Compose 2.24.4" in why["redis"]
    assert "port 6379 has another store in front already" in why["b"] and "a" not in why


def test_the_first_compose_is_asked_for_its_yaml(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that speaks as docker-compose 1.29 does; the real one is asked in tests/docker."""
    web = {"image": "x", "environment": {"P": "a$$b"}, "ports": ["8000:80/tcp"]}
    merged = {"services": {"web": web, "debug": {"image": "x", "profiles": ["dev"]}}, "version": "3"}
    (folder / "merged.yaml").write_text(yaml.safe_dump(merged))
    (folder / "compose.yaml").write_text("services: {web: {image: x}}\n")
    program = folder / "docker-compose"
    program.write_text(
        '#!/bin/sh\n[ "$1" = version ] && { echo 1.29.2; exit; }\n[ "$3" = config ] && [ $# = 3 ] && cat merged.yaml\n'
    )
    program.chmod(0o755)
    (folder / "docker").write_text("#!/bin/sh\nexit 1\n")
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    found = composed(("compose.yaml",))
    assert found.asked == ComposeCommand(("docker-compose",), (1, 29, 2))
    assert found.model["services"]["web"]["environment"] == {"P": "a$b"}
    assert set(found.model["services"]) == {"web"} and found.inactive == {"debug": ("dev",)}


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_a_broker_keeps_its_port_on_the_harness_s_own_toxiproxy() -> None:
    """Whoever it sends on is held against the port of its proxy there."""
    found = of(
        "services:\n"
        '  web: {build: ., ports: ["8000:8000"], environment: {A: "a:9092", KAFKA: "kafka:9092"}}\n'
        '  a: {image: nats, expose: ["9092"]}\n'
        '  kafka: {image: apache/kafka, environment: {KAFKA_ADVERTISED_LISTENERS: "PLAINTEXT://kafka:9092"}}\n'
    )
    rows = {row["name"]: row["listen"] for row in json.loads(found.proxies or "")}
    assert rows["kafka"] == "0.0.0.0:9092" and told(found, "a has a second address")


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_proxies_of_a_second_address_lead_to_the_harness_s_own() -> None:
    found = of(
        "services:\n"
        '  web: {build: ., ports: ["8000:8000"], environment: {A: "redis://a:6379", B: "redis://b:6379"}}\n'
        "  a: {image: redis}\n  b: {image: redis}\n"
    )
    assert found.override is not None and found.proxies is not None
    second = yaml.safe_load(found.override.replace("!override", ""))["configs"]["harness-toxiproxy-2"]["content"]
    rows = {row["name"]: row for row in json.loads(found.proxies)}
    assert json.loads(second)[0]["upstream"] == f"harness-toxiproxy:{rows['b']['listen'].rpartition(':')[2]}"
    assert rows["b"]["upstream"] == "b:6379" and told(found, "b has a second address")


@pytest.mark.usefixtures("no_compose")
@pytest.mark.parametrize(
    ("image", "settings", "name"),
    [
        ("redis:7", {"ENABLE_REDIS_EMPTY_PASSWORD": "false", "REDIS_PASSWORD": "s3cret"}, "REDIS_PASSWORD"),
        ("mariadb:10", {"MYSQL_ALLOW_EMPTY_PASSWORD": "true", "MYSQL_USER": "a"}, None),
        ("rabbitmq:3", {"POSTGRES_PASSWORD": "s3cret", "RABBITMQ_DEFAULT_USER": "a"}, None),
        ("rabbitmq:3", {"SMTP_PASSWORD": "x", "RABBITMQ_PASSWORD": "s3cret"}, "RABBITMQ_PASSWORD"),
        ("postgres:16", {"POSTGRES_USER": "a", "REDIS_PASSWORD": "x", "DB_PASSWORD": "s3cret"}, "DB_PASSWORD"),
        ("postgis/postgis:16", {"POSTGRES_USER": "a", "POSTGRES_PASS": "s3cret"}, "STORE_PASSWORD"),
    ],
)
def test_a_store_s_password_is_its_own(image: str, settings: dict[str, str], name: str | None) -> None:
    """Not that of another whose settings it shares, and no setting that only speaks of passwords."""
    found = of(
        "services:\n"
        '  web: {build: ., ports: ["8000:8000"], depends_on: [store]}\n'
        f"  store: {{image: {json.dumps(image)}, environment: {json.dumps(settings)}}}\n"
    )
    said = [line.split("#")[0].strip() for line in found.toml.splitlines() if line.startswith("password_env")]
    assert said == ([f'password_env = "{name}"'] if name is not None else []) and "s3cret" not in found.toml


@pytest.mark.usefixtures("no_compose")
def test_the_application_s_own_login_has_no_other_login_s_password() -> None:
    text = (
        "services:\n"
        '  web: {build: ., ports: ["8000:8000"], environment: {%s}}\n'
        '  db: {image: "postgres:16", environment: {POSTGRES_PASSWORD: s3cret}}\n'
    )
    for settings, name in (
        ('DATABASE_URL: "postgres://shop:0ther@db/shop"', "DB_PASSWORD"),
        ('DATABASE_URL: "postgres://postgres:s3cret@db/shop"', "POSTGRES_PASSWORD"),
        ('DATABASE_URL: "postgres://shop:s3cret@db/shop"', "POSTGRES_PASSWORD"),
        ('DB_HOST: db, DB_USER: shop, DB_PASS: "${SHOP_SECRET:-0ther}"', "SHOP_SECRET"),
        ("DB_HOST: db, DB_USER: shop, DB_PASS: 0ther", "DB_PASSWORD"),
    ):
        found = of(text % settings)
        assert f'\npassword_env = "{name}"' in found.toml, settings
        assert "0ther" not in found.toml and "s3cret" not in found.toml


@pytest.mark.usefixtures("no_compose")
@pytest.mark.parametrize(
    ("ports", "url"),
    [
        ('["443:443", "80:80"]', "http://127.0.0.1:80"),
        ('["25:25", "443:443"]', "https://127.0.0.1:443"),
        ('["25:25", "7777:7777", "9443:9443"]', "http://127.0.0.1:7777"),
    ],
)
def test_the_target_s_url_is_one_that_speaks_http(ports: str, url: str) -> None:
    assert f'url = "{url}"' in of(f"services: {{web: {{build: ., ports: {ports}}}}}").toml


@pytest.mark.usefixtures("no_compose")
@pytest.mark.parametrize(("host", "ports"), [("clickhouse", {8123, 9000}), ("clickhouse:8123", {8123})])
def test_a_store_of_two_protocols_has_both_where_none_is_said(host: str, ports: set[int]) -> None:
    """A fault on one of them would be none on the other."""
    found = of(
        "services:\n"
        f'  web: {{build: ., ports: ["8000:8000"], environment: {{CLICKHOUSE_HOST: "{host}"}}}}\n'
        "  clickhouse: {image: clickhouse/clickhouse-server}\n"
    )
    wanted = {proxy.port for one in found.front.fronted for proxy in one.proxies if proxy.wanted}
    assert wanted == ports and ("[dependencies.clickhouse-9000]" in found.toml) == (9000 in ports)


@pytest.mark.usefixtures("no_compose")
def test_no_port_of_the_application_is_told_where_only_others_publish_one() -> None:
    found = of('services: {web: {build: .}, db: {image: postgres, ports: ["5432:5432"]}}')
    assert told(found, "no service of the application publishes a port for HTTP")
    assert not told(of('services: {web: {build: ., ports: ["8000:8000"]}}'), "publishes a port")


PAYS = """
services:
  web:
    build: .
    ports: ["8000:8000"]
    environment: {REDIS_URL: "redis://redis:6379", PAYMENTS_URL: "http://payments:9000/v1"}
  redis: {image: "redis:7"}
  payments:
    image: acme/payments
    ports: ["9000:9000"]
    healthcheck: {test: ["CMD", "curl", "-f", "http://localhost:9000/ping"]}
"""


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_an_http_upstream_that_is_named_gets_an_envoy_behind_toxiproxy(folder: Path) -> None:
    found = of(PAYS, chosen=("redis", "payments"))
    assert told(found, "web reaches payments (9000) through Toxiproxy and Envoy") and told(found, "the target is web")
    assert found.override is not None and "harness-envoy" in yaml.safe_load(found.override)["services"]
    rows = {row["name"]: row["upstream"] for row in json.loads(found.proxies or "")}
    assert rows["payments"] == "harness-envoy:18080" and rows["redis"] == "redis:6379"
    envoy = json.loads(found.files["harness.envoy.json"])
    (cluster,) = envoy["static_resources"]["clusters"]
    (end,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert end["endpoint"]["address"]["socket_address"] == {"address": "payments", "port_value": 9000}
    for name, text in found.files.items():
        (folder / name).write_text(text)
    payments = parse(found.toml.encode(), folder / "harness.toml", tables()).dependencies["payments"]
    assert payments.kind == "http" and payments.front_container is not None
    assert (payments.service, payments.port) == ("payments", 9000) and "/ping" in found.toml
    done = command("plan", "--fault", "payments-status:status=429", cwd=folder)
    assert done.returncode == 0 and "429" in done.stdout, done.stderr
    # Of a project that is fronted already the same is made, and Envoy is nobody's dependency.
    (folder / "compose.override.yaml").write_text(found.override)
    again = of(PAYS, chosen=("redis", "payments"))
    assert again.toml.partition("[target]")[2] == found.toml.partition("[target]")[2]


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
@pytest.mark.parametrize("url", ["https://payments:9000", "grpc://payments:9000", "payments:9000"])
def test_what_is_not_asked_over_plain_http_gets_no_envoy(url: str) -> None:
    found = of(PAYS.replace("http://payments:9000/v1", url), chosen=("payments",))
    assert "harness.envoy.json" not in found.files and "envoy" not in (found.override or "") + found.toml
    assert told(found, "payments gets Toxiproxy alone, and no Envoy") and 'kind = "tcp"' in found.toml
    assert json.loads(found.proxies or "")[0]["upstream"] == "payments:9000"


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_an_application_that_is_asked_over_http_gets_nothing_unless_it_is_named() -> None:
    found = of(PAYS)
    assert "harness.envoy.json" not in found.files and not told(found, "payments (")
    assert told(found, "web asks payments over HTTP: --front with its name")
    named = of(PAYS, chosen=("payments",))
    assert told(named, "--front does not name redis, so no proxy") and not told(named, "nothing shows")
    assert not told(named, "over HTTP: --front")


def led_to(found: ComposeProposal) -> dict[str, str]:
    """Name of a proxy -> the address that it leads to in the end."""
    envoy = json.loads(found.files.get("harness.envoy.json", '{"static_resources": {"listeners": [], "clusters": []}}'))
    ends = {}
    for listener, cluster in zip(*(envoy["static_resources"][part] for part in ("listeners", "clusters")), strict=True):
        (end,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        at = end["endpoint"]["address"]["socket_address"]
        port = listener["address"]["socket_address"]["port_value"]
        ends[f"harness-envoy:{port}"] = f"envoy {at['address']}:{at['port_value']}"
    rows = json.loads(found.proxies or "[]")
    assert len({row["name"] for row in rows}) == len(rows)
    return {row["name"]: ends.get(row["upstream"], row["upstream"]) for row in rows}


def asking(*settings: str, payments: str = "expose: [9000]", more: str = "") -> str:
    lines = "".join(f"\n      {one}" for one in settings)
    return (
        f"services:\n  web:\n    build: .\n    ports: ['8000:8000']\n    environment:{lines}\n"
        f"  payments: {{image: acme/payments, {payments}}}\n{more}"
    )


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
@pytest.mark.parametrize(
    ("project", "front", "led"),
    [
        (
            asking("URL: http://payments:8080/v1", "GRPC: payments:50051", payments="expose: [50051, 8080]"),
            "payments",
            {"payments": "envoy payments:8080", "payments-50051": "payments:50051"},
        ),
        (
            asking("URL: http://payments/v1", payments="expose: [8443, 80]"),
            "payments",
            {"payments": "envoy payments:80", "payments-8443": "payments:8443"},
        ),
        (
            asking("URL: http://payments/v1", payments="expose: [9090]"),
            "payments",
            {"payments": "envoy payments:80", "payments-9090": "payments:9090"},
        ),
        (
            asking("A: http://payments:9000", "B: http://payments:9001/"),
            "payments",
            {"payments": "envoy payments:9000", "payments-9001": "envoy payments:9001"},
        ),
        (
            asking("URL: http://payments:4317"),
            "payments",
            {"payments": "payments:4317", "payments-9000": "payments:9000"},
        ),
        (
            asking("URL: http://pay:9000").replace("environment:", "links: ['payments:pay']\n    environment:"),
            "payments",
            {"payments": "envoy payments:9000"},
        ),
        (
            asking("URL: http://Pay_Me:9000", more="  Pay_Me: {image: acme/pay, expose: [9000]}\n"),
            "Pay_Me",
            {"Pay_Me": "envoy Pay_Me:9000"},
        ),
        (
            asking(
                "A: http://payments:80", "B: http://payments:81", "C: http://payments-81:81",
                payments="expose: [80]", more="  payments-81: {image: acme/other, expose: [81]}\n",
            ),
            "payments,payments-81",
            {
                "payments": "envoy payments:80",
                "payments-81": "envoy payments:81",
                "payments-81-p2": "envoy payments-81:81",
            },
        ),
        (
            asking("URL: http://payments:9000", "M: http://mail:9000", more="  mail: {image: acme/mail}\n"),
            "payments,mail",
            {"payments": "envoy payments:9000", "mail": "envoy mail:9000"},
        ),
    ],
)  # fmt: skip
def test_an_envoy_stands_before_the_ports_that_are_asked_over_http(
    folder: Path, project: str, front: str, led: dict[str, str]
) -> None:
    found = of(project, chosen=tuple(front.split(",")))
    assert led_to(found) == led
    for name, text in found.files.items():
        (folder / name).write_text(text)
    config = parse(found.toml.encode(), folder / "harness.toml", tables())
    fronts = sorted(name for name, table in config.dependencies.items() if table.front_container is not None)
    assert len(fronts) == sum(end.startswith("envoy") for end in led.values())
    for one in fronts:
        done = command("plan", "--fault", f"{one}-status", cwd=folder)
        assert done.returncode == 0, done.stderr


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_named_services_of_the_application_are_clients_of_one_another() -> None:
    found = of(
        asking(
            "URL: http://payments:9000",
            payments="expose: [9000], environment: {LEDGER: 'http://ledger:7000', R: 'redis://redis'}",
            more="  ledger: {image: acme/ledger, expose: [7000]}\n  redis: {image: redis}\n",
        ),
        chosen=("redis", "payments", "ledger"),
    )
    links = found.front.links
    assert links["payments"] == {"ledger": "harness-toxiproxy-2", "redis": "harness-toxiproxy"} or (
        set(links["payments"]) == {"ledger", "redis"} and set(links["web"]) == {"payments"}
    )


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_the_envoy_comes_up_with_toxiproxy_and_is_published_for_this_machine_alone() -> None:
    project = (
        asking("URL: http://payments:9000")
        .replace("build: .", "build: .\n    networks: [front, back]")
        .replace("image: acme/payments", "image: acme/payments, networks: [back]")
        + "networks: {front: {}, back: {internal: true}}\n"
    )
    services = yaml.safe_load(of(project, chosen=("payments",)).override or "")["services"]
    envoy = services["harness-envoy"]
    assert envoy["ports"] == ["127.0.0.1::9901"]
    assert envoy["networks"] == ["back", "harness-toxiproxy"], "none that it has no business on"
    assert services["harness-toxiproxy"]["depends_on"] == ["harness-envoy"]


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_a_name_that_means_two_services_to_the_front_is_refused() -> None:
    project = (
        "services:\n"
        "  web: {build: ., ports: ['8000:8000'], networks: [a], environment: {P: 'http://payments:9000'}}\n"
        "  job: {build: ., networks: [a, b], environment: {M: 'http://mail:9000'}}\n"
        "  payments: {image: acme/payments, networks: [a]}\n"
        "  mail: {image: acme/mail, networks: [a, b]}\n"
        "  stub: {image: acme/stub, networks: {b: {aliases: [payments]}}}\n"
        "networks: {a: {}, b: {}}\n"
    )
    with pytest.raises(UsageError, match="on its networks that name means others as well"):
        of(project, chosen=("payments", "mail"))


@pytest.mark.docker
@pytest.mark.usefixtures("compose_v2")
def test_a_health_page_of_another_port_is_not_that_of_the_front() -> None:
    health = "healthcheck: {test: [CMD, curl, 'http://localhost:9091/health']}"
    found = of(asking("URL: http://payments:9000", payments=f"expose: [9000], {health}"), chosen=("payments",))
    assert "/health" not in found.toml.partition("[dependencies.payments]")[2]
