"""An order for mail is a message, and its answer another one: a client that Locust does not have."""

import os
import uuid

import pika
from locust import User, task

REPLIES = "amq.rabbitmq.reply-to"


class Queue:
    def __init__(self, environment):
        self._events = environment.events
        self._connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBIT_DIRECT"]))
        self._channel = self._connection.channel()
        self._answers = {}
        self._channel.basic_consume(
            REPLIES, lambda _c, _m, head, body: self._answers.update({head.correlation_id: body}), auto_ack=True
        )

    def ask(self, name, body):
        number = uuid.uuid4().hex
        with self._events.request.measure("amqp", name):
            head = pika.BasicProperties(reply_to=REPLIES, correlation_id=number)
            self._channel.basic_publish("", "mails", body, head)
            while number not in self._answers:
                self._connection.process_data_events(time_limit=0.05)
            assert self._answers.pop(number) in (b"sent", b"later")


class Shopper(User):
    def on_start(self):
        self.queue = Queue(self.environment)

    @task
    def order(self):
        self.queue.ask("order mail", b'{"to": "ada"}')
