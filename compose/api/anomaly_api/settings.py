"""Settings from the environment, read once at start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anomaly_api.defects import HARDENED, Behaviour, behaviour


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Times in seconds. A budget is the whole time a request may spend on one call, waiting for a connection included.

    redis_url None: no cache (REDIS_ENABLED=false). risk_url None: no risk scores. db_pool_size connections are kept, up
    to db_max_overflow more are opened while requests wait for one. kafka_workers: consumers in this process.
    """

    redis_url: str | None = "redis://127.0.0.1:6379/0"
    database_url: str = "postgresql://anomaly_api@127.0.0.1:5432/anomalies"
    kafka_bootstrap: str = "127.0.0.1:9092"
    kafka_topic: str = "anomaly-events"
    kafka_group: str = "anomaly-api"
    kafka_workers: int = 1
    kafka_backlog: int = 20_000
    redis_pool_size: int = 8
    redis_budget_s: float = 0.05
    cache_ttl_s: int = 300
    db_pool_size: int = 5
    db_max_overflow: int = 5
    db_budget_s: float = 0.08
    profile_ttl_s: float = 2.0
    risk_url: str | None = None
    risk_pool_size: int = 8
    risk_budget_s: float = 0.2
    write_interval_s: float = 0.02
    write_backlog: int = 200_000
    local_entries: int = 10_000
    connect_budget_s: float = 1.0
    reconnect_s: float = 0.25
    start_wait_s: float = 1.0
    workers: int = 1
    access_log: bool = False
    behaviour: Behaviour = HARDENED

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Settings:
        """Raises ValueError in one line, naming the variable, for a value that cannot be used."""
        read = _Reader(env)
        default = cls()
        return cls(
            redis_url=read.text("REDIS_URL", default.redis_url) if read.flag("REDIS_ENABLED", True) else None,
            database_url=read.text("DATABASE_URL", default.database_url),
            kafka_bootstrap=read.text("KAFKA_BOOTSTRAP_SERVERS", default.kafka_bootstrap),
            kafka_topic=read.text("KAFKA_TOPIC", default.kafka_topic),
            kafka_group=read.text("KAFKA_GROUP", default.kafka_group),
            kafka_workers=read.whole("KAFKA_NUM_WORKER_THREADS", default.kafka_workers, 0, 64),
            kafka_backlog=read.whole("KAFKA_BACKLOG", default.kafka_backlog, 1, 10_000_000),
            redis_pool_size=read.whole("REDIS_POOL_SIZE", default.redis_pool_size, 1, 1000),
            redis_budget_s=read.whole("REDIS_TIMEOUT_MS", 50, 1, 60_000) / 1000,
            cache_ttl_s=read.whole("CACHE_TTL_SECONDS", default.cache_ttl_s, 1, 30 * 86400),
            db_pool_size=read.whole("DB_POOL_SIZE", default.db_pool_size, 1, 1000),
            db_max_overflow=read.whole("DB_MAX_OVERFLOW", default.db_max_overflow, 0, 1000),
            db_budget_s=read.whole("DB_TIMEOUT_MS", 80, 1, 60_000) / 1000,
            profile_ttl_s=read.whole("PROFILE_TTL_MS", 2000, 0, 3_600_000) / 1000,
            risk_url=read.text("RISK_URL", None) or None,
            risk_pool_size=read.whole("RISK_POOL_SIZE", default.risk_pool_size, 1, 1000),
            risk_budget_s=read.whole("RISK_TIMEOUT_MS", 200, 1, 60_000) / 1000,
            write_backlog=read.whole("WRITE_BACKLOG", default.write_backlog, 1, 100_000_000),
            local_entries=read.whole("LOCAL_CACHE_ENTRIES", default.local_entries, 1, 10_000_000),
            workers=read.whole("API_WORKERS", default.workers, 1, 256),
            access_log=read.flag("ACCESS_LOG", default.access_log),
            behaviour=behaviour(env.get("ANOMALY_API_DEFECT")),
        )

    def budget(self, seconds: float) -> float | None:
        """A budget as the service keeps it; None = for ever."""
        return seconds * self.behaviour.patience if self.behaviour.time_outs else None


class _Reader:
    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def text(self, name: str, default: str | None) -> str:
        return self._env.get(name) or default or ""

    def flag(self, name: str, default: bool) -> bool:
        value = self._env.get(name, "").strip().lower()
        if value in ("", "1", "true", "yes", "on"):
            return default if value == "" else True
        if value in ("0", "false", "no", "off"):
            return False
        raise ValueError(f"{name}={self._env[name]}: true or false is wanted")

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        value = self._env.get(name, "").strip()
        try:
            number = int(value) if value else default
        except ValueError:
            raise ValueError(f"{name}={value}: a whole number is wanted") from None
        if not low <= number <= high:
            raise ValueError(f"{name}={value}: a number from {low} to {high} is wanted")
        return number
