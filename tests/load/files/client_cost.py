"""python client_cost.py URL SECONDS: CPU microseconds a request of our client and of Locust's, taken in turns."""

import sys
import time

import gevent
from locust.contrib.fasthttp import FastHttpSession
from locust.event import EventHook

from harness.load.lean import LeanSession

URL, SECONDS = sys.argv[1], float(sys.argv[2])
COUNT = [0]
EVENT = EventHook()


@EVENT.add_listener
def on_request(exception, **_):
    assert exception is None, exception
    COUNT[0] += 1


def cost(client):
    def ask():
        while True:
            client.post("/predict", json={"hash": "0x1234", "value": 1.5})

    users = [gevent.spawn(ask)]
    gevent.sleep(SECONDS / 4)
    requests, spent = COUNT[0], time.process_time()
    gevent.sleep(SECONDS)
    spent, requests = time.process_time() - spent, COUNT[0] - requests
    gevent.killall(users)
    return spent / requests * 1e6


for _ in range(3):
    print(cost(LeanSession(URL, EVENT)), cost(FastHttpSession(URL, EVENT, None)))
