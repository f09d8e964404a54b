"""Meter readings out of a Kafka topic; all that it serves is a health page. Weak: an error ends what reads them."""

import asyncio
import os
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

WEAK = bool(os.environ.get("WEAK"))
BROKER, PORT = os.environ["KAFKA"], int(os.environ["PORT"])
TOPIC, STALE_S = "readings", 5.0
seen_at = 0.0
lag = {}
reading = True


async def ended(client):
    """Whatever it says to that: a client of a broker that is away raises many things, and its own cancelling."""
    await asyncio.wait([asyncio.ensure_future(client.stop())], timeout=5)


async def produce():
    """The meters of this town: they are as far from the broker as the service is."""
    while True:
        producer = AIOKafkaProducer(bootstrap_servers=BROKER, request_timeout_ms=1000, retry_backoff_ms=100)
        try:
            await producer.start()
            while True:
                await producer.send_and_wait(TOPIC, b"1")
                await asyncio.sleep(0.05)
        except KafkaError:
            await asyncio.sleep(0.2)
        finally:
            await ended(producer)


async def read_once():
    global lag, seen_at
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=BROKER,
        group_id="meter",
        enable_auto_commit=False,
        auto_offset_reset="latest",
        request_timeout_ms=1000,
        # Of its own name, so that the one who comes back is let in at once; long, so that a busy machine is no outage.
        group_instance_id="meter-1",
        session_timeout_ms=30000,
        heartbeat_interval_ms=1000,
        retry_backoff_ms=100,
    )
    await consumer.start()
    try:
        while True:
            if await consumer.getmany(timeout_ms=200):
                await asyncio.wait_for(consumer.commit(), 2)
                seen_at = time.monotonic()
            # How much is left to read; that is what an outage breaks.
            lag = await asyncio.wait_for(consumer.end_offsets(consumer.assignment()), 2)
    finally:
        await ended(consumer)


async def read():
    global reading
    while True:
        try:
            await read_once()
        except (OSError, KafkaError) as error:
            print("reading:", repr(error))
            if WEAK:
                reading = False
                return
            await asyncio.sleep(0.2)


async def serve(reader, writer):
    try:
        while line := await reader.readline():
            while (await reader.readline()).strip():
                pass
            fresh = reading and time.monotonic() - seen_at < STALE_S
            page = line.split()[1] if len(line.split()) > 1 else b"/"
            well = fresh or page == b"/live"
            status = b"200 OK" if well else b"503 Service Unavailable"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n" + (b"ok" if well else b"no"))
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", PORT)
    tasks = [asyncio.create_task(produce()), asyncio.create_task(read())]
    async with server:
        await asyncio.gather(server.serve_forever(), *tasks)


asyncio.run(main())
