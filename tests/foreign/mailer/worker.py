"""Takes orders for mail from RabbitMQ and hands them to a mail provider over HTTP. Weak: no time-out towards that."""

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pika
import requests

WEAK = bool(os.environ.get("WEAK"))
PROVIDER = os.environ["PROVIDER"]
BREAK_S = 2.0
alive_at = 0.0
provider = requests.Session()
provider_is_back_at = 0.0


def send(mail):
    """sent, or kept for later where the provider does not answer."""
    global provider_is_back_at
    if not WEAK and time.monotonic() < provider_is_back_at:
        return "later"
    try:
        provider.post(f"{PROVIDER}/send", json=mail, timeout=None if WEAK else 0.3).raise_for_status()
        return "sent"
    except requests.RequestException:
        provider_is_back_at = time.monotonic() + BREAK_S
        return "later"


def on_order(channel, method, properties, body):
    global alive_at
    done = send(json.loads(body))
    alive_at = time.monotonic()
    channel.basic_publish("", properties.reply_to, done, pika.BasicProperties(correlation_id=properties.correlation_id))
    channel.basic_ack(method.delivery_tag)


def work():
    while True:
        try:
            connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBIT"]))
            channel = connection.channel()
            channel.queue_declare("mails")
            channel.basic_qos(prefetch_count=1)
            channel.basic_consume("mails", on_order)
            channel.start_consuming()
        except pika.exceptions.AMQPError as error:
            print("queue:", repr(error))
            time.sleep(0.3)


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


threading.Thread(target=work, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
