"""The shop and its Redis, with Toxiproxy between them, as the plug-in is to know them."""

import json
import os
import urllib.request

import pytest
from serving import free_port, serving

REDIS = os.environ.get("TEST_REDIS", "127.0.0.1:6379")
TOXIPROXY = os.environ.get("TEST_TOXIPROXY", "http://127.0.0.1:8474")


def toxiproxy(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(TOXIPROXY + path, data=data, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


@pytest.fixture(scope="session")
def redis_through_proxy():
    """The name of a proxy in front of Redis, and the address at which it listens."""
    listen = f"127.0.0.1:{free_port()}"
    name = f"shop-redis-{os.getpid()}"
    toxiproxy("POST", "/proxies", {"name": name, "listen": listen, "upstream": REDIS})
    yield name, listen
    toxiproxy("DELETE", f"/proxies/{name}")


@pytest.fixture(scope="session")
def shop_url(redis_through_proxy, tmp_path_factory):
    with serving(redis_through_proxy[1], tmp_path_factory.mktemp("shop")) as url:
        yield url


@pytest.fixture(scope="session")
def harness_dependencies(redis_through_proxy, shop_url):
    """What a harness.toml would say, where the addresses are known only now."""
    return {
        "target": {"name": "shop", "url": shop_url, "health": "/health"},
        "toxiproxy": {"url": TOXIPROXY},
        "dependencies": {"redis": {"kind": "redis", "proxy": redis_through_proxy[0], "direct": REDIS}},
    }
