"""Arguments of its own, and tags.

    harness run --locustfile arguments_and_tags.py --locust-arg=--tenant=blue --tag read ...

A password belongs in the environment (env_var=): what is given on the command line is written into plan.json.
"""

from __future__ import annotations

from argparse import ArgumentParser

from locust import FastHttpUser, events, tag, task


@events.init_command_line_parser.add_listener
def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--tenant", default="green", help="Whose data is asked for")


class Tenant(FastHttpUser):
    @tag("read")
    @task(3)
    def look(self) -> None:
        self.client.get(f"/{self.environment.parsed_options.tenant}/orders", name="GET /{tenant}/orders")

    @tag("write")
    @task
    def order(self) -> None:
        self.client.post(f"/{self.environment.parsed_options.tenant}/orders", json={}, name="POST /{tenant}/orders")
