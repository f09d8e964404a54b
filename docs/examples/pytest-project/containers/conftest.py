"""The same with containers that testcontainers starts and removes: nothing has to run but a Docker engine."""

import json
import os
import time
import urllib.request

import pytest
from serving import serving
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

REDIS = os.environ.get("REDIS_IMAGE", "redis:8")
TOXIPROXY = os.environ.get("TOXIPROXY_IMAGE", "ghcr.io/shopify/toxiproxy:2.12.0")
LISTEN = 16379  # of the proxy, in Toxiproxy's container


def make_proxy(url):
    proxy = {"name": "redis", "listen": f"0.0.0.0:{LISTEN}", "upstream": "redis:6379"}
    for _ in range(150):
        try:
            with urllib.request.urlopen(f"{url}/proxies", json.dumps(proxy).encode(), timeout=2) as answer:
                return answer.read()
        except OSError:  # it has only just been started
            time.sleep(0.2)
    raise AssertionError("Toxiproxy does not answer")


@pytest.fixture(scope="session")
def containers():
    with Network() as network:
        redis = DockerContainer(REDIS).with_network(network).with_network_aliases("redis").with_exposed_ports(6379)
        toxiproxy = DockerContainer(TOXIPROXY).with_command("-host=0.0.0.0")
        toxiproxy = toxiproxy.with_network(network).with_exposed_ports(8474, LISTEN)
        with redis, toxiproxy:
            make_proxy(f"http://127.0.0.1:{toxiproxy.get_exposed_port(8474)}")
            yield redis, toxiproxy


@pytest.fixture(scope="session")
def shop_url(containers, tmp_path_factory):
    through_proxy = f"127.0.0.1:{containers[1].get_exposed_port(LISTEN)}"
    with serving(through_proxy, tmp_path_factory.mktemp("shop")) as url:
        yield url


@pytest.fixture(scope="session")
def harness_dependencies(containers, shop_url):
    redis, toxiproxy = containers
    return {
        "target": {"name": "shop", "url": shop_url, "health": "/health"},
        "toxiproxy": {
            "url": f"http://127.0.0.1:{toxiproxy.get_exposed_port(8474)}",
            "container": toxiproxy.get_wrapped_container().name,
        },
        "dependencies": {
            "redis": {
                "kind": "redis",
                "proxy": "redis",
                "path": f"127.0.0.1:{toxiproxy.get_exposed_port(LISTEN)}",
                "direct": f"127.0.0.1:{redis.get_exposed_port(6379)}",
                "container": redis.get_wrapped_container().name,
            }
        },
    }
