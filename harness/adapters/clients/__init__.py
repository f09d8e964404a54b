"""Client libraries of servers: Redis, PostgreSQL, PgBouncer's console, MySQL, RabbitMQ, Prometheus, Grafana.

Faults, locks and the conductor come in. Each library is imported in one file of this room and nowhere else.
"""
