"""A Django shop: goods in PostgreSQL, a cache in Redis. Weak: it waits for its cache for as long as that takes."""

import os
import time

import django
import redis
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import JsonResponse
from django.urls import path

settings.configure(
    SECRET_KEY="of-a-test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["DB_HOST"],
            "PORT": os.environ["DB_PORT"],
            "USER": os.environ["DB_USER"],
            "PASSWORD": os.environ.get("DB_PASSWORD", ""),
            "NAME": os.environ["DB_NAME"],
            "CONN_MAX_AGE": None,
            "CONN_HEALTH_CHECKS": True,
        }
    },
)
django.setup()

WEAK = bool(os.environ.get("WEAK"))
CACHE = redis.Redis.from_url(
    os.environ["REDIS_URL"], **({} if WEAK else {"socket_timeout": 0.2, "socket_connect_timeout": 0.2})
)
RETRY_S = 2.0
_cache_is_back_at = 0.0


def cached(key):
    """None where the cache has nothing, or does not answer: then it is left alone for a while."""
    global _cache_is_back_at
    if not WEAK and time.monotonic() < _cache_is_back_at:
        return None
    try:
        return CACHE.get(key)
    except redis.RedisError:
        _cache_is_back_at = time.monotonic() + RETRY_S
        return None


def remember(key, value):
    global _cache_is_back_at
    if not WEAK and time.monotonic() < _cache_is_back_at:
        return
    try:
        CACHE.set(key, value, ex=1)
    except redis.RedisError:
        _cache_is_back_at = time.monotonic() + RETRY_S


def item(request, number):
    found = cached(f"item:{number}")
    if found is None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM goods WHERE number = %s", [number % 10])
            row = cursor.fetchone()
        found = row[0].encode()
        remember(f"item:{number}", found)
    return JsonResponse({"number": number, "name": found.decode()})


def order(request):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders (number) VALUES (1) RETURNING id")
        return JsonResponse({"id": cursor.fetchone()[0]}, status=201)


def health(request):
    return JsonResponse({"status": "ok"})


def prepare():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS goods (number int PRIMARY KEY, name text)")
        cursor.execute("CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, number int)")
        cursor.execute("INSERT INTO goods SELECT n, 'thing ' || n FROM generate_series(0, 9) n ON CONFLICT DO NOTHING")


urlpatterns = [path("items/<int:number>", item), path("orders", order), path("health", health)]
prepare()
application = get_wsgi_application()
