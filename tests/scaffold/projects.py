"""Small invented Compose projects, one for each kind of trouble that real ones have, and what is true of each.

led: client -> "name:port" as its program uses it -> "store:port" that must answer through a proxy. direct: client ->
names that must not lead to Toxiproxy. refused: (client, store) that cannot be led, and must be told by name. target:
the service that people call; None: it cannot be told.
"""

# Compose files are as people write them.
# ruff: noqa: E501

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    files: dict[str, str]
    led: dict[str, dict[str, str]] = field(default_factory=dict)
    direct: dict[str, tuple[str, ...]] = field(default_factory=dict)
    refused: frozenset[tuple[str, str]] = frozenset()
    target: str | None = "web"
    given: tuple[str, ...] = ("compose.yaml",)
    profiles: tuple[str, ...] = ()
    project: str | None = None


def case(name: str, compose: str, *, more: dict[str, str] | None = None, **rest: object) -> Case:
    rest["refused"] = frozenset(rest.get("refused", ()))  # type: ignore[call-overload]
    return Case(name=name, files={"compose.yaml": compose, **(more or {})}, **rest)  # type: ignore[arg-type]


REDIS = {"redis:6379": "redis:6379"}
DB = {"db:5432": "db:5432"}

CASES = [
    case(
        "one store in a URL with credentials",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {DATABASE_URL: "postgresql://shop:s3cret@db:5432/shop"}}
  db: {image: "postgres:16", environment: {POSTGRES_USER: shop, POSTGRES_PASSWORD: s3cret}}
""",
        led={"web": DB},
    ),
    case(
        "user, password and database are called like the store",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {DATABASE_URL: "postgres://db:db@pg/db"}}
  pg: {image: "postgres:16", environment: {POSTGRES_USER: db, POSTGRES_PASSWORD: db}}
  db: {image: "mysql:8"}
""",
        led={"web": {"pg:5432": "pg:5432"}},
        direct={"web": ("db",)},
    ),
    case(
        "env_file",
        """
services:
  web: {build: ., ports: ["8000:8000"], env_file: [web.env]}
  redis: {image: "redis:7"}
""",
        more={"web.env": "REDIS_HOST=redis\nREDIS_PORT=6379\n"},
        led={"web": REDIS},
    ),
    case(
        ".env fills in the image, the host and the port",
        """
services:
  web: {build: ., ports: ["${WEB_PORT}:8000"], environment: {DB_HOST: "${DB_NAME_ON_NET:-nobody}", DB_PORT: "${DB_PORT}"}}
  db: {image: "${DB_IMAGE}", command: ["-p", "5433"], expose: ["5433"]}
""",
        more={".env": "WEB_PORT=8080\nDB_NAME_ON_NET=db\nDB_PORT=5433\nDB_IMAGE=postgres:16\n"},
        led={"web": {"db:5433": "db:5433"}},
    ),
    case(
        "nested variables",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {CACHE_URL: "redis://${CACHE_HOST:-${FALLBACK_HOST:-redis}}:6379"}}
  redis: {image: "redis:7"}
""",
        led={"web": REDIS},
    ),
    case(
        "the override file that Compose loads by itself",
        """
services:
  web: {build: ., environment: {REDIS_HOST: elsewhere.example.com}}
  redis: {image: "redis:7"}
""",
        more={"compose.override.yaml": 'services: {web: {ports: ["8000:8000"], environment: {REDIS_HOST: redis}}}\n'},
        led={"web": REDIS},
    ),
    case(
        "no file is named, and docker-compose.yml is found",
        "services: {}",
        more={
            "docker-compose.yml": """
version: "3.8"
services:
  web: {build: ., ports: ["8000:8000"], environment: ["REDIS_URL=redis://redis:6379/1"]}
  redis: {image: "redis:7"}
"""
        },
        given=("docker-compose.yml",),
        led={"web": REDIS},
    ),
    case(
        "two files that are named",
        """
services:
  web: {build: ., ports: ["8000:8000"]}
  redis: {image: "redis:7"}
""",
        more={"prod.yaml": "services: {web: {environment: {REDIS_URL: 'redis://redis'}}}\n"},
        given=("compose.yaml", "prod.yaml"),
        led={"web": REDIS},
    ),
    case(
        "include",
        """
include: [stores/compose.yaml]
services:
  web: {build: ., ports: ["8000:8000"], environment: {PGHOST: db}}
""",
        more={"stores/compose.yaml": "services: {db: {image: 'postgres:16', environment: {POSTGRES_PASSWORD: x}}}\n"},
        led={"web": DB},
    ),
    case(
        "extends another file",
        """
services:
  web: {extends: {file: base.yaml, service: app}, ports: ["8000:8000"]}
  worker: {extends: {file: base.yaml, service: app}, command: celery -A shop worker}
  redis: {image: "redis:7"}
""",
        more={"base.yaml": "services: {app: {build: ., environment: {BROKER_URL: 'redis://redis:6379/0'}}}\n"},
        led={"web": REDIS, "worker": REDIS},
    ),
    case(
        "a profile that is named",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {REDIS_HOST: redis}}
  redis: {image: "redis:7", profiles: [full]}
  debug: {build: ., profiles: [debug], environment: {REDIS_HOST: redis}}
""",
        profiles=("full",),
        led={"web": REDIS},
    ),
    case(
        "YAML anchors and merge keys",
        """
x-common: &common {build: ., environment: &env {REDIS_URL: "redis://redis:6379", DB_HOST: db}}
services:
  web: {<<: *common, ports: ["8000:8000"]}
  worker: {build: ., command: python worker.py, environment: {<<: *env, QUEUE: high}}
  redis: {image: "redis:7"}
  db: {image: "postgres:16"}
""",
        led={"web": {**REDIS, **DB}, "worker": {**REDIS, **DB}},
    ),
    case(
        "a link to the store",
        """
services:
  web: {build: ., ports: ["8000:8000"], links: [redis]}
  redis: {image: "redis:7"}
""",
        led={"web": REDIS},
    ),
    case(
        "a link under another name, and one to something else",
        """
services:
  web: {build: ., ports: ["8000:8000"], links: ["db:database", "mailer"], environment: {DB_HOST: database}}
  db: {image: "mariadb:11"}
  mailer: {image: shop/mailer}
""",
        led={"web": {"database:3306": "db:3306"}},
        direct={"web": ("mailer",)},
    ),
    case(
        "two of one kind on one port",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {CACHE_URL: "redis://cache:6379", QUEUE_URL: "redis://queue:6379"}}
  cache: {image: "redis:7"}
  queue: {image: "redis:7"}
""",
        led={"web": {"cache:6379": "cache:6379", "queue:6379": "queue:6379"}},
    ),
    case(
        "three of one kind, one of them of another service",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {DB_HOST: db-orders, USERS_DB_HOST: db-users}}
  mails: {build: mails, environment: {DB_HOST: db-mails}}
  db-orders: {image: "postgres:16"}
  db-users: {image: "postgres:15"}
  db-mails: {image: "postgres:14"}
""",
        led={
            "web": {"db-orders:5432": "db-orders:5432", "db-users:5432": "db-users:5432"},
            "mails": {"db-mails:5432": "db-mails:5432"},
        },
    ),
    case(
        "two stores of different kinds on one port",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {CLICKHOUSE: "clickhouse:9000", S3_ENDPOINT: "http://minio:9000"}}
  clickhouse: {image: "clickhouse/clickhouse-server:24"}
  minio: {image: minio/minio, command: server /data --console-address :9001}
""",
        led={"web": {"clickhouse:9000": "clickhouse:9000", "minio:9000": "minio:9000"}},
    ),
    case(
        "several ports of one store",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {AMQP_URL: "amqp://mq:5672", RABBIT_API: "http://mq:15672/api"}}
  mq: {image: "rabbitmq:3-management"}
""",
        led={"web": {"mq:5672": "mq:5672", "mq:15672": "mq:15672"}},
    ),
    case(
        "a read replica that the application uses, too",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {DB_HOST: db, DB_READ_HOST: db-replica}}
  db: {image: "bitnami/postgresql:16", environment: {POSTGRESQL_REPLICATION_MODE: master}}
  db-replica:
    image: bitnami/postgresql:16
    environment: {POSTGRESQL_REPLICATION_MODE: slave, POSTGRESQL_MASTER_HOST: db}
""",
        led={"web": {**DB, "db-replica:5432": "db-replica:5432"}},
        direct={"db-replica": ("db",)},
    ),
    case(
        "replicas that nobody but the store uses",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {REDIS_URL: "redis://redis-master:6379"}}
  redis-master: {image: "redis:7"}
  redis-replica: {image: "redis:7", command: redis-server --replicaof redis-master 6379, depends_on: [redis-master]}
""",
        led={"web": {"redis-master:6379": "redis-master:6379"}},
        direct={"redis-replica": ("redis-master",)},
    ),
    case(
        "Sentinel tells the master's address",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {SENTINELS: "sentinel:26379", MASTER_NAME: mymaster}, depends_on: [redis]}
  redis: {image: "redis:7"}
  sentinel: {image: "bitnami/redis-sentinel:7", environment: {REDIS_MASTER_HOST: redis}}
""",
        refused=[("web", "redis")],
        direct={"sentinel": ("redis",)},
    ),
    case(
        "Sentinels that the application does not ask",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {REDIS_HOST: redis}}
  redis: {image: "redis:7"}
  guard: {image: "redis:7", command: redis-server /etc/sentinel.conf --sentinel, environment: {MASTER: redis}}
""",
        led={"web": REDIS},
        direct={"guard": ("redis",)},
    ),
    case(
        "network_mode host",
        """
services:
  web: {build: ., network_mode: host, environment: {REDIS_URL: "redis://localhost:6379"}}
  redis: {image: "redis:7", ports: ["6379:6379"]}
""",
        refused=[("web", "redis")],
        target=None,
    ),
    case(
        "an application in the network of a VPN",
        """
services:
  vpn: {image: qmcgaw/gluetun, ports: ["8000:8000"]}
  web: {build: ., network_mode: "service:vpn", environment: {REDIS_HOST: redis}}
  redis: {image: "redis:7"}
""",
        led={"web": REDIS},
        target="vpn",
    ),
    case(
        "a Unix socket",
        """
services:
  web: {build: ., ports: ["8000:8000"], volumes: ["sock:/var/run/postgresql"], environment: {DB_HOST: /var/run/postgresql}}
  db: {image: "postgres:16", volumes: ["sock:/var/run/postgresql"]}
volumes: {sock: {}}
""",
        refused=[("web", "db")],
    ),
    case(
        "a network alias",
        """
services:
  web: {build: ., ports: ["8000:8000"], networks: [back], environment: {DB_HOST: database.internal}}
  db: {image: "postgres:16", networks: {back: {aliases: [database.internal]}}}
networks: {back: {}}
""",
        led={"web": {"database.internal:5432": "db:5432", "db:5432": "db:5432"}},
    ),
    case(
        "container_name",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {MONGO_URL: "mongodb://shop-mongo:27017/shop"}}
  mongo: {image: "mongo:7", container_name: shop-mongo}
""",
        led={"web": {"shop-mongo:27017": "mongo:27017"}},
    ),
    case(
        "hostname",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {AMQP: "amqp://rabbit1:5672"}, depends_on: [mq]}
  mq: {image: "rabbitmq:3", hostname: rabbit1}
""",
        led={"web": {"rabbit1:5672": "mq:5672"}},
    ),
    case(
        "the name that Compose gives the container",
        """
name: shop
services:
  web: {build: ., ports: ["8000:8000"], environment: {REDIS_HOST: shop-redis-1}}
  redis: {image: "redis:7"}
""",
        led={"web": {"shop-redis-1:6379": "redis:6379"}},
        project="shop",
    ),
    case(
        "extra_hosts send the name to another machine",
        """
services:
  web: {build: ., ports: ["8000:8000"], extra_hosts: ["db:10.1.2.3"], environment: {DB_HOST: db, REDIS_HOST: redis}}
  db: {image: "postgres:16"}
  redis: {image: "redis:7"}
""",
        led={"web": REDIS},
        direct={"web": ("db",)},
    ),
    case(
        "extra_hosts send the name to the host, where the store is published",
        """
services:
  web: {build: ., ports: ["8000:8000"], extra_hosts: ["db:host-gateway"], environment: {DB_HOST: db, REDIS_HOST: redis}}
  db: {image: "postgres:16", ports: ["5432:5432"]}
  redis: {image: "redis:7"}
""",
        led={"web": REDIS},
        refused=[("web", "db")],
    ),
    case(
        "extra_hosts pin the store's own address",
        """
services:
  web: {build: ., ports: ["8000:8000"], networks: [back], extra_hosts: ["db:172.28.9.5", "smtp:10.0.0.9"], environment: {DB_HOST: db}}
  db: {image: "postgres:16", networks: {back: {ipv4_address: 172.28.9.5}}}
networks: {back: {ipam: {config: [{subnet: 172.28.9.0/24}]}}}
""",
        led={"web": DB},
    ),
    case(
        "an address instead of a name",
        """
services:
  web: {build: ., ports: ["8000:8000"], networks: [back], environment: {REDIS_HOST: 172.28.9.6}}
  redis: {image: "redis:7", networks: {back: {ipv4_address: 172.28.9.6}}}
networks: {back: {ipam: {config: [{subnet: 172.28.9.0/24}]}}}
""",
        refused=[("web", "redis")],
    ),
    case(
        "by way of the host",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {DB_HOST: host.docker.internal, DB_PORT: "15432", REDIS_HOST: redis}}
  db: {image: "postgres:16", ports: ["15432:5432"]}
  redis: {image: "redis:7"}
""",
        led={"web": REDIS},
        refused=[("web", "db")],
    ),
    case(
        "several networks",
        """
services:
  proxy: {image: "nginx:1", ports: ["80:80"], networks: [front], depends_on: [web]}
  web: {build: ., networks: [front, back], environment: {DB_HOST: db}}
  db: {image: "postgres:16", networks: [back]}
networks: {front: {}, back: {internal: true}}
""",
        led={"web": DB},
        target="proxy",
    ),
    case(
        "only internal networks behind it",
        """
services:
  web: {build: ., ports: ["8000:8000"], networks: [back], environment: {DB_HOST: db}}
  db: {image: "postgres:16", networks: [back]}
networks: {back: {internal: true}}
""",
        led={"web": DB},
    ),
    case(
        "exporters and user interfaces name the stores",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {REDIS_HOST: redis, DB_HOST: db}}
  redis: {image: "redis:7"}
  db: {image: "postgres:16"}
  redis-exporter: {image: "oliver006/redis_exporter:v1", environment: {REDIS_ADDR: "redis://redis:6379"}, ports: ["9121:9121"]}
  pg-exporter: {image: prometheuscommunity/postgres-exporter, environment: {DATA_SOURCE_URI: "db:5432/postgres"}}
  commander: {image: rediscommander/redis-commander, environment: {REDIS_HOSTS: "local:redis:6379"}, ports: ["8081:8081"]}
  pgadmin: {image: dpage/pgadmin4, ports: ["5050:80"], depends_on: [db]}
""",
        led={"web": {**REDIS, **DB}},
        direct={"redis-exporter": ("redis",), "pg-exporter": ("db",), "commander": ("redis",), "pgadmin": ("db",)},
    ),
    case(
        "an admin of one's own is the application",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {DB_HOST: db}}
  admin: {build: ./admin, ports: ["8001:8000"], environment: {DB_HOST: db}}
  redis-worker: {build: ./worker, image: shop/redis-worker, environment: {DB_HOST: db}}
  db: {image: "postgres:16"}
""",
        led={"web": DB, "admin": DB, "redis-worker": DB},
    ),
    case(
        "migrations are done once",
        """
services:
  web:
    build: .
    ports: ["8000:8000"]
    environment: {DB_HOST: db}
    depends_on: {migrate: {condition: service_completed_successfully}}
  migrate: {build: ., command: ["npm", "run", "db:up"], environment: {DB_HOST: db}}
  seed: {build: ., command: sh -c "./wait-for db:5432 && python manage.py loaddata demo", environment: {DB_HOST: db}}
  db: {image: "postgres:16"}
""",
        led={"web": DB},
        direct={"migrate": ("db",), "seed": ("db",)},
    ),
    case(
        "one that migrates and then serves",
        """
services:
  web:
    build: .
    ports: ["8000:8000"]
    command: sh -c "python manage.py migrate && gunicorn shop.wsgi"
    environment: {DB_HOST: db}
  db: {image: "postgres:16"}
""",
        led={"web": DB},
    ),
    case(
        "stores without a kind of their own",
        """
services:
  web:
    build: .
    ports: ["8000:8000"]
    environment:
      MONGO_URI: mongodb://root:x@mongo:27017/shop?authSource=admin
      ELASTIC: http://elasticsearch:9200
      NATS_URL: nats://nats:4222
      CLICKHOUSE_HOST: clickhouse
      MEMCACHED_SERVERS: memcached:11211
  mongo: {image: "mongo:7"}
  elasticsearch: {image: "docker.elastic.co/elasticsearch/elasticsearch:8.14.0"}
  nats: {image: "nats:2"}
  clickhouse: {image: clickhouse/clickhouse-server}
  memcached: {image: "memcached:1.6-alpine"}
  mongo-express: {image: mongo-express, environment: {ME_CONFIG_MONGODB_SERVER: mongo}, ports: ["8081:8081"]}
  kibana: {image: "docker.elastic.co/kibana/kibana:8.14.0", environment: {ELASTICSEARCH_HOSTS: "http://elasticsearch:9200"}}
""",
        led={
            "web": {
                "mongo:27017": "mongo:27017",
                "elasticsearch:9200": "elasticsearch:9200",
                "nats:4222": "nats:4222",
                "clickhouse:8123": "clickhouse:8123",
                "clickhouse:9000": "clickhouse:9000",
                "memcached:11211": "memcached:11211",
            }
        },
        direct={"mongo-express": ("mongo",), "kibana": ("elasticsearch",)},
    ),
    case(
        "MinIO and the job that makes its buckets",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {S3_ENDPOINT: "http://minio:9000"}}
  minio: {image: minio/minio, command: server /data, ports: ["9001:9001"]}
  buckets: {image: minio/mc, entrypoint: "sh -c 'mc alias set m http://minio:9000 a b && mc mb m/x'", depends_on: [minio]}
""",
        led={"web": {"minio:9000": "minio:9000"}},
        direct={"buckets": ("minio",)},
    ),
    case(
        "a replica set of MongoDB that shows its member",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {MONGO_URL: "mongodb://mongo:27017/shop?replicaSet=rs0"}}
  mongo: {image: "mongo:7", command: mongod --replSet rs0 --bind_ip_all}
  mongo-init:
    image: mongo:7
    restart: "no"
    command: mongosh --host mongo --eval "rs.initiate({_id:'rs0',members:[{_id:0,host:'mongo:27017'}]})"
""",
        led={"web": {"mongo:27017": "mongo:27017"}},
        direct={"mongo-init": ("mongo",)},
    ),
    case(
        "Kafka with two listeners",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {KAFKA_BOOTSTRAP_SERVERS: "kafka:29092"}}
  kafka:
    image: confluentinc/cp-kafka:7.6.0
    ports: ["9092:9092"]
    environment:
      KAFKA_LISTENERS: INSIDE://0.0.0.0:29092,OUTSIDE://0.0.0.0:9092
      KAFKA_ADVERTISED_LISTENERS: INSIDE://kafka:29092,OUTSIDE://localhost:9092
      KAFKA_ZOOKEEPER_CONNECT: zookeeper:2181
  zookeeper: {image: confluentinc/cp-zookeeper:7.6.0}
  kafka-ui: {image: provectuslabs/kafka-ui, ports: ["8080:8080"], environment: {KAFKA_CLUSTERS_0_BOOTSTRAPSERVERS: "kafka:29092"}}
  topics: {image: confluentinc/cp-kafka:7.6.0, command: "kafka-topics --bootstrap-server kafka:29092 --create --topic a"}
  connect: {image: confluentinc/cp-kafka-connect:7.6.0, environment: {CONNECT_BOOTSTRAP_SERVERS: "kafka:29092"}}
""",
        led={"web": {"kafka:29092": "kafka:29092"}},
        direct={"kafka-ui": ("kafka",), "topics": ("kafka",), "connect": ("kafka",)},
    ),
    case(
        "Kafka that advertises another listener than the one asked",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {KAFKA_BROKER: "kafka:9092"}}
  kafka:
    image: apache/kafka:3.9.0
    environment:
      KAFKA_LISTENERS: PLAINTEXT://:9092,CONTROLLER://:9093
      KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://localhost:9092
""",
        refused=[("web", "kafka")],
    ),
    case(
        "three brokers, of which the application names one",
        """
x-broker: &broker {image: "bitnami/kafka:3.7"}
services:
  web: {build: ., ports: ["8000:8000"], environment: {KAFKA_BROKERS: "kafka-0:9092"}}
  kafka-0: {<<: *broker, environment: {KAFKA_CFG_ADVERTISED_LISTENERS: "PLAINTEXT://kafka-0:9092", PEERS: "kafka-1:9093"}}
  kafka-1: {<<: *broker, environment: {KAFKA_CFG_ADVERTISED_LISTENERS: "PLAINTEXT://kafka-1:9092", PEERS: "kafka-0:9093"}}
  kafka-2: {<<: *broker, environment: {KAFKA_CFG_ADVERTISED_LISTENERS: "PLAINTEXT://kafka-2:9092", PEERS: "kafka-0:9093"}}
""",
        led={"web": {f"kafka-{n}:9092": f"kafka-{n}:9092" for n in range(3)}},
        direct={"kafka-1": ("kafka-0",), "kafka-0": ("kafka-1",)},
    ),
    case(
        "Redpanda with its console",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {BROKERS: "redpanda:9092", REGISTRY_URL: "http://redpanda:8081"}}
  redpanda:
    image: redpandadata/redpanda:v24
    command:
      - redpanda
      - start
      - --kafka-addr internal://0.0.0.0:9092,external://0.0.0.0:19092
      - --advertise-kafka-addr internal://redpanda:9092,external://localhost:19092
  console: {image: "redpandadata/console:v2", ports: ["8080:8080"], environment: {KAFKA_BROKERS: "redpanda:9092"}}
""",
        led={"web": {"redpanda:9092": "redpanda:9092", "redpanda:8081": "redpanda:8081"}},
        direct={"console": ("redpanda",)},
    ),
    case(
        "a pooler stands between",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {DATABASE_URL: "postgres://shop:x@pgbouncer:6432/shop"}}
  pgbouncer: {image: edoburu/pgbouncer, environment: {DB_HOST: db, LISTEN_PORT: "6432"}}
  db: {image: "postgres:16"}
""",
        led={"web": {"pgbouncer:6432": "pgbouncer:6432"}},
        direct={"pgbouncer": ("db",)},
    ),
    case(
        "Laravel's words for drivers are no hosts",
        """
services:
  web:
    build: .
    ports: ["8000:80"]
    environment: {DB_CONNECTION: mysql, DB_HOST: db, CACHE_DRIVER: redis, QUEUE_CONNECTION: redis, REDIS_HOST: redis}
  reports: {build: ./reports, environment: {DB_CONNECTION: mysql, DB_HOST: db, DB_USERNAME: redis}}
  db: {image: "mysql:8", environment: {MYSQL_DATABASE: shop}}
  redis: {image: "redis:alpine"}
""",
        led={"web": {"db:3306": "db:3306", **REDIS}, "reports": {"db:3306": "db:3306"}},
        direct={"reports": ("redis",)},
    ),
    case(
        "a mounted file names the store",
        """
services:
  web: {build: ., ports: ["8000:8000"], volumes: ["./app.yml:/etc/app.yml:ro"]}
  redis: {image: "redis:7"}
""",
        more={"app.yml": "cache:\n  host: redis\n  port: 6379\n"},
        led={"web": REDIS},
    ),
    case(
        "a DSN of Go, JDBC, and a wait in front of the command",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {DSN: "shop:x@tcp(db:3306)/shop?parseTime=true"}}
  java: {build: java, environment: {SPRING_DATASOURCE_URL: "jdbc:mysql://db:3306/shop"}}
  worker: {build: ., command: ["./wait-for-it.sh", "redis:6379", "--", "python", "worker.py"]}
  db: {image: "mysql:8"}
  redis: {image: "redis:7"}
""",
        led={"web": {"db:3306": "db:3306"}, "java": {"db:3306": "db:3306"}, "worker": REDIS},
        direct={"web": ("redis",)},
    ),
    case(
        "only depends_on says it",
        """
services:
  web: {build: ., ports: ["8000:8000"], depends_on: {redis: {condition: service_healthy}}}
  redis: {image: "redis:7", healthcheck: {test: redis-cli ping}}
""",
        led={"web": REDIS},
    ),
    case(
        "two services are as likely to be called",
        """
services:
  orders: {build: orders, ports: ["8001:8000"], environment: {DB_HOST: db}}
  users: {build: users, ports: ["8002:8000"], environment: {DB_HOST: db}}
  db: {image: "postgres:16"}
""",
        led={"orders": DB, "users": DB},
        target=None,
    ),
    case(
        "the application has several containers",
        """
services:
  web: {build: ., ports: ["8000:8000"], deploy: {replicas: 3}, environment: {REDIS_HOST: redis}}
  redis: {image: "redis:7"}
""",
        led={"web": REDIS},
    ),
    case(
        "two services have one alias",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {REDIS_HOST: cache}}
  redis-a: {image: "redis:7", networks: {default: {aliases: [cache]}}}
  redis-b: {image: "redis:7", networks: {default: {aliases: [cache]}}}
""",
        refused=[("web", "redis-a"), ("web", "redis-b")],
        direct={"web": ("cache",)},
    ),
    case(
        "a store that is built here, and one whose image says nothing",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {DATABASE_URL: "postgres://shop:x@db/shop", ORDERS_DB_HOST: orders}}
  db: {build: ./db}
  orders: {image: "registry.example.com/platform/data:12", volumes: ["orders:/var/lib/mysql"]}
volumes: {orders: {}}
""",
        led={"web": {**DB, "orders:3306": "orders:3306"}},
    ),
    case(
        "a socket beside a name",
        """
services:
  web: {build: ., ports: ["8000:8000"], volumes: ["sock:/tmp/redis"], environment: {REDIS_URL: "unix:///tmp/redis/redis.sock"}}
  redis: {image: "redis:7", volumes: ["sock:/tmp/redis"]}
  db: {image: "postgres:16", command: postgres -p 5544}
  worker: {build: ., environment: {PGHOST: db}}
volumes: {sock: {}}
""",
        led={"worker": {"db:5544": "db:5544"}},
        refused=[("web", "redis")],
    ),
    case(
        "a Toxiproxy of the project's own",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {REDIS_HOST: toxiproxy}, depends_on: [redis, toxiproxy]}
  redis: {image: "redis:7"}
  toxiproxy: {image: "ghcr.io/shopify/toxiproxy:2.12.0", command: ["-config=/p.json"], volumes: ["./p.json:/p.json"]}
""",
        more={"p.json": '[{"name": "cache", "listen": "0.0.0.0:6379", "upstream": "redis:6379"}]'},
        direct={"toxiproxy": ("redis",)},
    ),
    case(
        "links to another service that take the store's name",
        """
services:
  web: {build: ., ports: ["8000:8000"], links: ["pgbouncer:db"], environment: {DB_HOST: db}}
  pgbouncer: {image: edoburu/pgbouncer, environment: {DB_HOST: db}}
  db: {image: "postgres:16"}
""",
        led={"web": {"db:5432": "pgbouncer:5432"}},
    ),
    case(
        "a store in the network of the application",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {MEMCACHED: "localhost:11211"}}
  memcached: {image: "memcached:1", network_mode: "service:web"}
""",
        refused=[("web", "memcached")],
    ),
    case(
        "a gateway in front of services that use the stores",
        """
services:
  gateway: {build: gateway, ports: ["8080:8080"], environment: {ORDERS_URL: "http://orders:8000"}}
  orders: {build: orders, ports: ["8001:8000"], environment: {DB_HOST: db}}
  db: {image: "postgres:16"}
""",
        led={"orders": DB},
        target="gateway",
    ),
    case(
        "Airflow's common block, its start-up job and its Flower",
        """
x-common: &common
  image: apache/airflow:2.9
  environment: &env
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN: postgresql+psycopg2://airflow:x@postgres/airflow
    AIRFLOW__CELERY__BROKER_URL: redis://:@redis:6379/0
  depends_on: &deps {redis: {condition: service_healthy}, postgres: {condition: service_healthy}}
services:
  web: {<<: *common, command: webserver, ports: ["8080:8080"], depends_on: {<<: *deps, init: {condition: service_completed_successfully}}}
  scheduler: {<<: *common, command: scheduler}
  init: {<<: *common, command: version}
  flower: {<<: *common, command: celery flower, ports: ["5555:5555"]}
  postgres: {image: "postgres:13", environment: {POSTGRES_USER: airflow, POSTGRES_PASSWORD: x}, healthcheck: {test: pg_isready}}
  redis: {image: "redis:7", healthcheck: {test: redis-cli ping}}
""",
        led={
            "web": {"postgres:5432": "postgres:5432", **REDIS},
            "scheduler": {"postgres:5432": "postgres:5432", **REDIS},
        },
        direct={"init": ("postgres", "redis"), "flower": ("postgres", "redis")},
    ),
    case(
        "images that are built and have a name, by their services' names",
        """
services:
  web: {build: ., image: shop_production_web, command: /start, ports: ["5000:5000"], env_file: [envs/web], depends_on: [postgres, redis]}
  celeryworker: {build: ., image: shop_production_worker, command: /start-celeryworker, env_file: [envs/web]}
  flower: {build: ., image: shop_production_flower, command: /start-flower, env_file: [envs/web], ports: ["5555:5555"]}
  postgres: {build: pg, image: shop_production_postgres, env_file: [envs/postgres]}
  redis: {image: "docker.io/redis:6"}
""",
        more={
            "envs/web": "REDIS_URL=redis://redis:6379/0\nPOSTGRES_HOST=postgres\nPOSTGRES_PORT=5432\nPOSTGRES_USER=u\nPOSTGRES_DB=d\n",
            "envs/postgres": "POSTGRES_HOST=postgres\nPOSTGRES_USER=u\nPOSTGRES_DB=d\nPOSTGRES_PASSWORD=s3cret\n",
        },
        led={
            "web": {"postgres:5432": "postgres:5432", **REDIS},
            "celeryworker": {"postgres:5432": "postgres:5432", **REDIS},
        },
        direct={"flower": ("redis", "postgres")},
    ),
    case(
        "a replica set of Bitnami's, and a broker with its set-up",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {MONGO: "mongodb://mongodb/shop", BROKERS: "kafka:9092"}}
  mongodb: {image: "bitnami/mongodb:7", environment: {MONGODB_REPLICA_SET_MODE: primary, MONGODB_ADVERTISED_HOSTNAME: mongodb}}
  kafka:
    image: bitnami/kafka:3.7
    command: sh -c "(sleep 9; kafka-topics.sh --create --topic a) & /opt/bitnami/scripts/kafka/run.sh"
    environment: {KAFKA_CFG_ADVERTISED_LISTENERS: "PLAINTEXT://kafka:9092"}
""",
        led={"web": {"mongodb:27017": "mongodb:27017", "kafka:9092": "kafka:9092"}},
    ),
    case(
        "further stores and their tools",
        """
services:
  web:
    build: .
    ports: ["8000:8000"]
    environment: {AWS_ENDPOINT_URL: "http://localstack:4566", DYNAMO: "http://dynamodb:8000", SEARCH: "http://search:7700", PULSAR: "pulsar://bus:6650"}
  localstack: {image: "localstack/localstack:3"}
  dynamodb: {image: amazon/dynamodb-local}
  search: {image: "getmeili/meilisearch:v1.8"}
  bus: {image: "apachepulsar/pulsar:3.2"}
  setup: {image: "postgres:16", command: psql -h db -c "select 1"}
  db: {image: "postgres:16"}
""",
        led={
            "web": {
                "localstack:4566": "localstack:4566",
                "dynamodb:8000": "dynamodb:8000",
                "search:7700": "search:7700",
            }
        },
        direct={"setup": ("db",), "web": ("bus",)},
        refused=[("web", "bus")],
    ),
    case(
        "a store on the port of a broker",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {CH: "clickhouse:9092", KAFKA: "zz-kafka:9092"}}
  clickhouse: {image: clickhouse/clickhouse-server, expose: ["9092"]}
  zz-kafka: {image: "apache/kafka:3.9.0", environment: {KAFKA_ADVERTISED_LISTENERS: "PLAINTEXT://zz-kafka:9092"}}
""",
        led={"web": {"clickhouse:9092": "clickhouse:9092", "zz-kafka:9092": "zz-kafka:9092"}},
    ),
    case(
        "stores whose images nobody knows: by their data, by the port that others say, by a URL",
        """
services:
  web: {image: acme/shop, ports: ["25:25", "80:80"], environment: {REMOTE_POSTGRES_HOST: database, MONGO_HOST: "carts:27017", CACHE: "redis://speedy"}}
  database: {image: "acme/shop-postgresql:14", volumes: ["pg:/var/lib/postgresql/data"]}
  carts: {image: "acme/carts-db:1"}
  users-mongodb: {image: acme/shop-mongodb}
  users: {image: acme/users-mongodb-api, depends_on: [users-mongodb]}
  speedy: {image: "acme/speedy:2"}
  gateway: {image: acme/gateway, ports: ["6000:6379"], environment: {UPSTREAM: "web:80"}}
  probe: {image: acme/probe, environment: {GATEWAY: "gateway:6379"}}
volumes: {pg: {}}
""",
        led={
            "web": {"database:5432": "database:5432", "carts:27017": "carts:27017", "speedy:6379": "speedy:6379"},
            "users": {"users-mongodb:27017": "users-mongodb:27017"},
        },
        direct={"probe": ("gateway",)},
    ),
    case(
        "a store that shares an env_file with the application is no client of another store",
        """
services:
  web: {image: acme/reports, ports: ["5000:5000"], env_file: [env], depends_on: [postgres, redis]}
  postgres: {image: "acme/upgrading:17", env_file: [env], volumes: ["./data:/var/lib/postgresql/data"]}
  redis: {image: "redis:7"}
""",
        more={
            "env": "REDIS_URL=redis://redis:6379/0\nDATABASE_URL=postgresql://postgres:s3cret@postgres/postgres\nPOSTGRES_PASSWORD=s3cret\n"
        },
        led={"web": {"postgres:5432": "postgres:5432", **REDIS}},
        direct={"postgres": ("redis",)},
    ),
    case(
        "brokers that wait for something, by their settings, and what stands beside them",
        """
x-broker: &broker {image: "acme/server:8", depends_on: [directory]}
services:
  app: {image: acme/streams, environment: {BOOTSTRAP_SERVERS: "broker1:11091"}}
  broker1: {<<: *broker, ports: ["11091:11091"], environment: {KAFKA_LISTENERS: "SSL://broker1:11091", KAFKA_ADVERTISED_LISTENERS: "SSL://broker1:11091"}}
  directory: {image: acme/directory}
  connect: {build: connect, ports: ["8083:8083"], environment: {CONNECT_BOOTSTRAP_SERVERS: "broker1:11091"}}
  center: {image: acme/enterprise-control-center, ports: ["9021:9021"], environment: {BOOTSTRAP_SERVERS: "broker1:11091"}}
""",
        led={"app": {"broker1:11091": "broker1:11091"}},
        direct={"connect": ("broker1",), "center": ("broker1",)},
        target=None,
    ),
    case(
        "a pooler on the port that its image has",
        """
services:
  web: {build: ., ports: ["8000:8000"], depends_on: [pgbouncer, other]}
  pgbouncer: {image: "edoburu/pgbouncer:v1", environment: {DB_HOST: db}}
  other: {image: acme/pgbouncer, environment: {DB_HOST: db, LISTEN_PORT: "6543"}}
  db: {image: "postgres:16"}
""",
        led={"web": {"pgbouncer:5432": "pgbouncer:5432", "other:6543": "other:6543"}},
        direct={"pgbouncer": ("db",)},
    ),
    case(
        "profiles and features are no hosts",
        """
services:
  web: {build: ., ports: ["8000:8000"], environment: {COMPOSE_PROFILES: "redis,web", SPRING_PROFILES_ACTIVE: "db", REDIS_NODES: "redis"}}
  worker: {build: ., environment: {COMPOSE_PROFILES: "redis,web", ENABLED_FEATURES: "db", SPRING_PROFILES_ACTIVE: "db"}}
  redis: {image: "redis:7"}
  db: {image: "postgres:16"}
""",
        led={"web": REDIS},
        direct={"worker": ("redis", "db"), "web": ("db",)},
    ),
    case(
        "an exporter of documents is the application, one of measurements is not",
        """
services:
  web: {image: acme/web, ports: ["8000:8000"], environment: {REDIS_HOST: redis}}
  exporter: {image: "acme/exporter:2", environment: {REDIS_HOST: redis}}
  dashboards: {image: "acme/dashboards", environment: {REDIS_HOST: redis}}
  metrics: {image: "acme/redis-exporter:1", environment: {REDIS_ADDR: "redis:6379"}}
  redis: {image: "redis:7"}
""",
        led={"web": REDIS, "exporter": REDIS, "dashboards": REDIS},
        direct={"metrics": ("redis",)},
    ),
    case(
        "tracing, mail catchers and databases on a published port are not what people call",
        """
services:
  web1: {build: ., ports: ["81:5000"], environment: {DATABASE: "sql:1433"}}
  oracle: {image: acme/oracle-18-xe-micro-sq, ports: ["5104:1521"]}
  sql: {image: "registry.example.com/mssql/server:2022"}
  zipkin: {image: openzipkin/zipkin, ports: ["9411:9411"]}
  mails: {image: acme/mailcatcher, ports: ["1080:1080"]}
  ldap: {image: acme/ldap, ports: ["389:389"]}
""",
        led={"web1": {"sql:1433": "sql:1433"}},
        target="web1",
    ),
]
