"""The contract of the harness, on the server that TEST_REDIS names, and what only this fault promises."""

from __future__ import annotations

import os

import pytest
import redis
from redis_read_only import READ_ONLY, SETTING

from harness.api import Address, Dependency, Refused, UndoUnverified
from harness.testing import FaultContract, assert_refused, change_for

HOST, _, PORT = os.environ.get("TEST_REDIS", "127.0.0.1:6379").rpartition(":")


@pytest.fixture
def dependency() -> Dependency:
    return Dependency(name="redis", kind="redis", direct=Address(HOST, int(PORT)))


def server() -> redis.Redis:
    return redis.Redis(HOST, int(PORT))


class TestReadOnly(FaultContract):
    fault = READ_ONLY

    def look(self, dependency: Dependency) -> object:
        with server() as connection:
            return connection.config_get("*")


def test_another_kind_of_server_is_refused() -> None:
    assert_refused(READ_ONLY, Dependency(name="db", kind="postgres"))


def test_a_setting_that_somebody_else_has_changed_is_not_set_back(dependency: Dependency) -> None:
    record = READ_ONLY.capture(change_for(READ_ONLY, dependency), "r")
    READ_ONLY.inject(record)
    try:
        with server() as connection:
            connection.config_set(SETTING, 7)
        with pytest.raises(UndoUnverified, match="is 7; it was 0") as told:
            READ_ONLY.undo(record)
        assert told.value.mend == f"redis-cli CONFIG SET {SETTING} 0"
    finally:
        with server() as connection:
            connection.config_set(SETTING, 0)


def test_a_server_that_refuses_writes_already_is_left_alone(dependency: Dependency) -> None:
    with server() as connection:
        connection.config_set(SETTING, 3)
    try:
        with pytest.raises(Refused, match="already"):
            READ_ONLY.capture(change_for(READ_ONLY, dependency), "r")
    finally:
        with server() as connection:
            connection.config_set(SETTING, 0)
