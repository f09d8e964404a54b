"""What a service of a compose project is: a store, the application, or what stands beside them and is neither.

Told by its image's own name, its command, and who waits for it. A service's own name counts only where its image says
nothing. What is uncertain is taken for the application: a proxy before it changes nothing as long as no fault is on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from harness.dependencies.kind import DependencyKind
from harness.dependencies.registry import kinds
from harness.scaffold.compose_services import Project, Service

Role = Literal["store", "application", "beside"]


class Family(msgspec.Struct, frozen=True):
    """Stores of one protocol. words: parts of images' names, or a whole one. ports: its own, that of its clients first;
    either: another that they may use as well. follows: why its clients do not stay with the name they were given;
    None: they do."""

    name: str
    words: frozenset[str]
    ports: tuple[int, ...]
    follows: str | None = None
    either: int | None = None


def _family(name: str, words: str, *ports: int, follows: str | None = None, either: int | None = None) -> Family:
    return Family(name, frozenset(words.split()), ports, follows, either)


_FAMILIES = (
    _family("pgbouncer", "pgbouncer pgpool pgcat odyssey", 6432, 5432),
    _family("postgres", "postgres postgresql postgis timescaledb timescale pgvector citus", 5432),
    _family("redis", "redis redismod valkey keydb dragonfly", 6379),
    _family("mysql", "mysql mariadb percona", 3306, 33060),
    _family("rabbitmq", "rabbitmq", 5672, 15672, 5671, 61613, 1883, 5552),
    _family("kafka", "kafka cp-server", 9092),
    _family("redpanda", "redpanda", 9092, 8081, 8082, 9644),
    _family("memcached", "memcached", 11211),
    _family("mongo", "mongo mongodb", 27017),
    _family("elasticsearch", "elasticsearch opensearch", 9200, 9300),
    _family("clickhouse", "clickhouse", 8123, 9000, 9009, 8443, 9440, either=9000),
    _family("minio", "minio", 9000, 9001),
    _family("seaweedfs", "seaweedfs", 8333, 8888, 9333),
    _family("nats", "nats", 4222, 8222),
    _family(
        "cassandra", "cassandra scylla", 9042, follows="its clients go on to the addresses that its nodes tell them"
    ),
    _family("couchbase", "couchbase", 8091, 11210, follows="its clients go on to the addresses of its nodes"),
    _family("aerospike", "aerospike", 3000, follows="its clients go on to the addresses of its nodes"),
    _family("hazelcast", "hazelcast", 5701, follows="its clients go on to the addresses of its members"),
    _family("pulsar", "pulsar", 6650, 8080, follows="its clients go on to the broker that a lookup names"),
    _family("localstack", "localstack", 4566),
    _family("dynamodb", "dynamodb", 8000),
    _family("azurite", "azurite", 10000, 10001, 10002),
    _family("vault", "vault", 8200),
    _family("consul", "consul", 8500),
    _family("arangodb", "arangodb", 8529),
    _family("rethinkdb", "rethinkdb", 28015),
    _family("weaviate", "weaviate", 8080, 50051),
    _family("beanstalkd", "beanstalkd", 11300),
    _family("cockroach", "cockroach cockroachdb", 26257, 8080),
    _family("sqlserver", "mssql sqlserver azure-sql-edge", 1433),
    _family("oracle", "oracle", 1521),
    _family("influxdb", "influxdb", 8086),
    _family("neo4j", "neo4j", 7687, 7474),
    _family("couchdb", "couchdb", 5984),
    _family("etcd", "etcd", 2379),
    _family("meilisearch", "meilisearch", 7700),
    _family("typesense", "typesense", 8108),
    _family("qdrant", "qdrant", 6333, 6334),
    _family("solr", "solr", 8983),
    _family("activemq", "activemq artemis", 61616, 8161),
    _family("mosquitto", "mosquitto emqx", 1883),
)
_PLAIN = _family(
    "plain",
    "server stack alpine ha db cluster docker image dev custom cp local management oss extended bundle community"
    " enterprise single node standalone my main primary master cache sql database data store queue broker mq jobs"
    " sessions session all one xe free express",
).words
"""Parts of a name that say nothing else about a store."""

_DATA = {
    "/var/lib/postgresql": "postgres",
    "/bitnami/postgresql": "postgres",
    "/var/lib/mysql": "mysql",
    "/data/db": "mongo",
    "/var/lib/rabbitmq": "rabbitmq",
    "/usr/share/elasticsearch/data": "elasticsearch",
    "/var/lib/clickhouse": "clickhouse",
}
_SCHEMES = {
    "postgres": "postgres",
    "postgresql": "postgres",
    "mysql": "mysql",
    "mariadb": "mysql",
    "redis": "redis",
    "rediss": "redis",
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "mongodb": "mongo",
    "nats": "nats",
    "clickhouse": "clickhouse",
}
_PORTS = {5432: "postgres", 3306: "mysql", 6379: "redis", 27017: "mongo", 5672: "rabbitmq", 11211: "memcached"}
"""On which nothing else listens."""

_BESIDE = {
    "an exporter or a collector": r"(redis|valkey|postgres|pg|sql|mysqld?|mariadb|mongodb|mongo|kafka|rabbitmq"
    r"|memcached|elasticsearch|clickhouse"
    r"|pgbouncer|nats|node|nginx|blackbox|statsd|jmx)[-_]exporter|prometheus|alertmanager|telegraf|netdata|cadvisor|datadog"
    r"|(grafana|datadog)/agent$|logstash|(file|metric|heart|packet)beat$|fluentd|fluent-bit|/vector$|promtail|opentelemetry|otel-"
    r"|openzipkin/|jaegertracing/|grafana/(loki|tempo|mimir|alloy)|datalust/seq$",
    "a user interface": r"adminer|phpmyadmin|pgadmin|pgweb|pghero|cloudbeaver|dbgate|sqlpad|mongo-express"
    r"|redis-?commander$|redis-?insight|control-center|phpredisadmin|(kafka|redis|mongo|nats|elastic)[a-z]*[-_]ui$|kafdrop|akhq|kowl|cmak|kafka-manager"
    r"|(redpanda\w*|vectorized)/console$|kibana|opensearch-dashboards$|cerebro|elastichq|elasticsearch-head|elasticvue|grafana/grafana"
    r"|mher/flower|rq-dashboard|bull-board|asynqmon|mailhog|mailpit|mailcatcher|maildev",
    "a connector or a registry": r"kafka-connect|debezium/(connect|server)|schema-registry|ksqldb|kafka-rest|rest-proxy"
    r"|mirror-?maker|cruise-control",
    "a Toxiproxy": r"/toxiproxy$|^toxiproxy$",
    "a coordinator": r"[-_]sentinel|zookeeper|clickhouse-keeper",
    "a backup": r"(postgres|pg|mysql|mongo|redis|db)[-\w]*backup|pgdump|barman|wal-g",
    "a migration or a set-up": r"flyway|liquibase|/migrate$|arigaio/atlas$|dbmate|minio/mc$",
}
"""By the image's whole name without its tag. An image that is built here is nobody's known tool."""
_TOOL_NAME = re.compile(
    r"flower|adminer|pgadmin4?|phpmyadmin|redis-?commander|redis-?insight|kafka-?ui|kafdrop|akhq|mongo-?express|kibana"
    r"|(grafana|prometheus)(-?server)?"
)
"""A whole service's name, also of one that is built here."""
_JOB_NAME = re.compile(
    r"(^|[-_])(migrat\w*|db-?init|init-?db|seed(er|s)?|create-?buckets?|create-?topics?)($|[-_])|[-_]init$"
)
_JOB = re.compile(
    r"\bmigrat\w*|\balembic\b|\bflyway\b|\bliquibase\b|\bdb:(migrate|create|seed|prepare|setup)|\bloaddata\b"
    r"|\bcollectstatic\b|\bcreatesuperuser\b|\bseed\b|\bsyncdb\b"
)
_WAITS = re.compile(r"^(wait-for\S*|\S*/wait-for\S*|dockerize|sleep|until|while|do|done|echo|set|cd|exit|true)\b")
_CLIENT_TOOL = re.compile(
    r"(^|[\s;&|/'\"(])(redis-cli|psql|pg_dump|createdb|mongosh|mongodump|mongoimport|mysql(?=\s+-)"
    r"|mysqladmin|mysqldump|mariadb(?=\s+-)"
    r"|rabbitmqadmin|kafka-topics(\.sh)?|kafka-console-\w+|kafka-configs(\.sh)?"
    r"|clickhouse-client|rpk topic|cub|curl|nc)\b"
)
_SERVER_TOOL = re.compile(
    r"redis-server|valkey-server|docker-entrypoint|\bpostgres\b(?!\S)|\bmongod\b|\bmysqld\b|mariadbd|kafka-server-start|start-kafka|/run\.sh|entrypoint"
    r"|/etc/confluent"
    r"|/etc/kafka/docker|redpanda start|rabbitmq-server|clickhouse-server"
)
_REPLICA = re.compile(r"--?(replicaof|slaveof)\b|\breplicaof\b|pg_basebackup|standby", re.IGNORECASE)
_REPLICA_MODE = re.compile(r"^(slave|replica|secondary|standby)$", re.IGNORECASE)
_REPLICA_NAME = re.compile(r"(^|[-_])(replica|slave|standby|secondary|follower)s?($|[-_\d])")


class What(msgspec.Struct, frozen=True, kw_only=True):
    """role of a service, and why: a clause. family: of a store."""

    role: Role
    why: str
    family: Family | None = None

    @property
    def kind(self) -> DependencyKind:
        return kind_of_family(self.family)


def roles(project: Project) -> dict[str, What]:
    done = {
        name
        for one in project.services.values()
        for name, condition in one.depends_on.items()
        if condition == "service_completed_successfully"
    }
    return {name: _role(project, one, waited_for=name in done) for name, one in project.services.items()}


def _role(project: Project, service: Service, *, waited_for: bool) -> What:
    if waited_for:
        return What(role="beside", why="a job that others wait for until it is done")
    beside = _beside(service)
    if beside is not None:
        return What(role="beside", why=beside)
    family, by = family_of(project, service)
    if family is not None:
        if _CLIENT_TOOL.search(service.command) and not _SERVER_TOOL.search(service.command):
            return What(role="beside", why=f"a job with {family.name}'s tools (by its command)")
        if "--sentinel" in service.command or "redis-sentinel" in service.command:
            return What(role="beside", why="a Sentinel (by its command)")
        why = "a replica" if _replica(service) else f"{family.name} (by its {by})"
        return What(role="store", why=why, family=family)
    job = _job(service)
    return What(role="beside", why=job) if job is not None else What(role="application", why="")


def family_of(project: Project, service: Service) -> tuple[Family | None, str]:
    """By its image, or a broker's own settings. Where that is built here or says nothing: by its own name, if that is
    the store's and no more. Where nobody knows the image: by what both names end in, by where its data lie, by the
    scheme of the URLs in which others name it, by the port that they say. And which of these it was."""
    found = _named(service.base) or (_named(_owner(service)) if _opaque(service.base) else None)
    if found is not None:
        return found, "image"
    if any(re.fullmatch(r"KAFKA_(CFG_)?ADVERTISED_LISTENERS", key) for key in service.environment):
        return _called("kafka"), "settings"
    if service.depends_on:
        return None, ""
    known = bool(service.image) and service.build is None and not _opaque(service.base)
    if not known and (found := _named(service.name.lower())) is not None:
        return found, "name"
    family = _last(service.base)
    if family is not None and family is _last(service.name.lower()):
        return family, "name"
    for target in service.mounts:
        for path, name in _DATA.items():
            if target.rstrip("/").startswith(path):
                return _called(name), "data"
    place = re.compile(
        rf"(?:\b(\w+)(\+\w+)?://([^/\s@\"']*@)?|(?<![\w./@-])){re.escape(service.name)}(?::(\d+)|(?![\w.-]))"
    )
    for other in project.services.values():
        for _, text in other.texts if other.name != service.name else ():
            for match in place.finditer(text):
                if match[1] in _SCHEMES:
                    return _called(_SCHEMES[match[1]]), "URL"
                if match[1] is None and not service.published and int(match[4] or 0) in _PORTS:
                    return _called(_PORTS[int(match[4])]), "port"
    return None, ""


def _last(name: str) -> Family | None:
    """The store that a name ends in: `orders-mongodb`, `shop-mongodb`."""
    words = [word for word in re.split(r"[-_.\d]+", name) if word]
    return _named(words[-1]) if len(words) > 1 else None


def _owner(service: Service) -> str:
    """What stands before the name of its image: `mssql` of registry/mssql/server."""
    return service.image.partition("@")[0].rpartition("/")[0].rpartition("/")[2].lower()


def _called(name: str) -> Family:
    return next(one for one in _FAMILIES if one.name == name)


def _opaque(base: str) -> bool:
    """An image's name that says nothing: all of it plain words, as in `registry/db`."""
    return set(re.split(r"[-_.\d]+", base)) - {""} <= _PLAIN


def _named(name: str) -> Family | None:
    words = set(re.split(r"[-_.\d]+", name)) - {""}
    for family in _FAMILIES:
        if name in family.words or (words & family.words and words - family.words <= _PLAIN):
            return family
    for kind in kinds().values():  # one of another package, which says what its images are called
        own = {word for word in words if kind.images is not None and re.fullmatch(kind.images, word, re.IGNORECASE)}
        if own and kind.default_port is not None and words - own <= _PLAIN:
            return Family(kind.name, frozenset(own), (kind.default_port,))
    return None


def kind_of_family(family: Family | None) -> DependencyKind:
    """The kind whose pattern knows this family; tcp for what has none of its own."""
    if family is not None:
        words = {"postgres"} if family.name == "pgbouncer" else {family.name, *family.words}
        for kind in kinds().values():
            if kind.images is not None and any(re.search(kind.images, word, re.IGNORECASE) for word in words):
                return kind
    return kinds()["tcp"]


def _beside(service: Service) -> str | None:
    path = re.sub(r":[^/]*$", "", service.image.partition("@")[0].lower())
    for what, pattern in _BESIDE.items() if service.build is None else ():
        if re.search(pattern, path) and _named(service.base) is None:
            return f"{what} (by its image)"
    if _TOOL_NAME.fullmatch(service.name.lower()):
        return "a user interface or a collector (by its name)"
    if "CONNECT_BOOTSTRAP_SERVERS" in service.environment:
        return "a connector (by its settings)"
    if re.search(r"\bcelery\b.*\bflower\b|\brq-dashboard\b|\bconnect-(distributed|standalone)\b", service.command):
        return "a user interface or a connector (by its command)"
    return None


def _job(service: Service) -> str | None:
    """A command whose every part migrates, seeds or waits. One that goes on to serve is the application."""
    parts = [
        part.strip(" '\"()")
        for part in re.split(r"&&|\|\||;|\n", re.sub(r"^(/bin/)?(ba|a)?sh\s+-\w*c\w*\s+", "", service.command))
    ]
    parts = [part for part in parts if part]
    if parts and any(map(_JOB.search, parts)) and all(_JOB.search(p) or _WAITS.search(p) for p in parts):
        return "a one-shot job (by its command)"
    short = service.restart in ("", "no") or service.restart.startswith("on-failure")
    if _JOB_NAME.search(service.name.lower()) and short and not service.ports:
        return "a one-shot job (by its name)"
    return None


def _replica(service: Service) -> bool:
    modes = [value for key, value in service.environment.items() if key.upper().endswith("REPLICATION_MODE")]
    return bool(
        _REPLICA.search(service.command)
        or any(map(_REPLICA_MODE.match, modes))
        or _REPLICA_NAME.search(service.name.lower())
    )


def primary_port(service: Service, what: What, environment: Mapping[str, str]) -> int | None:
    """Where a store listens for its clients: as its command says, as its family does, the first one it shows."""
    pooler = what.family is not None and what.family.name == "pgbouncer"
    said = re.search(r"(?<!\S)(?:--port|-p|-P|-c port)[ =]?(\d{2,5})\b", service.command)
    if said is not None and what.family is not None and what.family.name in ("postgres", "redis", "mongo", "mysql"):
        return int(said[1])
    for key in ("PGPORT", "LISTEN_PORT", "PGBOUNCER_PORT") if pooler else ("PGPORT",):
        if environment.get(key, "").isdigit():
            return int(environment[key])
    if pooler and _owner(service) == "edoburu":
        return 5432  # which that image has where nothing else is said
    if what.family is not None:
        known = [port for port in what.family.ports if port in service.ports]
        return known[0] if known else what.family.ports[0]
    return service.ports[0] if service.ports else None
