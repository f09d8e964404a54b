"""The configuration of an Envoy that stands in front of HTTP upstreams: a listener and the filters of faults for each.

Pure. A filter's kind and its rate cannot change while Envoy runs, only what its runtime keys say: the share of
requests, the status, the delay. So each kind has a filter of its own with keys of its own, which are absent, and the
filter neutral, until a fault sets them. The rest is set so that requests and answers pass as they are: no time limits,
no retries, no limits on connections, the spelling of headers kept.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from harness.model.records.faults import Address, Tls

PROBE_AGENT = "harness-probe"
"""User-Agent of the harness's own probes: what comes with another one is the application's, and counted as such."""
FILL_PAGE, FILL_HEADER, FILL_TIMES = "/.harness-front/fill", "x-harness-fill", 8
"""A page for our probes alone: Envoy answers it with the header's text, so many times over. An upstream's own page may
be too short to drip."""
RATES = (1, 8, 64)
"""KiB/s of slow-body, a filter each."""
RETRY_AFTER_S = 1
SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"

_TYPES = "type.googleapis.com/envoy.extensions."
_NONE = {"numerator": 0, "denominator": "HUNDRED"}
_MOST = 4_000_000
_LONG = "86400s"


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """name: of the front, as harness.toml calls it. listen: where the application is to connect. tls: the upstream
    speaks it; Envoy speaks it for the application, which speaks plain HTTP."""

    name: str
    listen: Address
    upstream: Address
    tls: Tls | None = None


def prefix(front: str) -> str:
    """What the names of a front's statistics begin with."""
    return f"harness_{front}"


def key(front: str, kind: str, what: str) -> str:
    """A runtime key: `harness.risk.status.percent`."""
    return f"harness.{front}.{kind}.{what}"


def keys_of(front: str) -> tuple[str, ...]:
    """All that a front's filters read."""
    changing = (("status", "percent"), ("status", "code"), ("delay", "percent"), ("delay", "ms"))
    slow = ((f"slow-body-{rate}", "percent") for rate in RATES)
    return tuple(key(front, kind, what) for kind, what in (*changing, *slow))


def configuration(upstreams: Iterable[Upstream], admin: Address, *, retry_after_s: int = RETRY_AFTER_S) -> str:
    """The file as JSON. retry_after_s: of the Retry-After that a status set by a fault is answered with."""
    all_of_them = tuple(upstreams)
    found = {
        "admin": {"address": _address(admin)},
        "layered_runtime": {"layers": [{"name": "admin", "admin_layer": {}}]},
        "static_resources": {
            "listeners": [_listener(one, retry_after_s) for one in all_of_them],
            "clusters": [_cluster(one) for one in all_of_them],
        },
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"


def _listener(one: Upstream, retry_after_s: int) -> dict[str, Any]:
    name = prefix(one.name)
    probes = {"name": "user-agent", "string_match": {"exact": PROBE_AGENT}}
    # The Host that the application sends is the front's; a server behind TLS is usually one of several by its name.
    host = {"host_rewrite_literal": _server_name(one)} if one.tls is not None else {}
    fill = {"text_format_source": {"inline_string": f"%REQ({FILL_HEADER})%" * FILL_TIMES}}
    manager = {
        "stat_prefix": name,
        "stream_idle_timeout": "0s",
        "request_timeout": "0s",
        "common_http_protocol_options": {"idle_timeout": "0s", "max_headers_count": 1000},
        "max_request_headers_kb": 8192,
        "http_protocol_options": {"accept_http_10": True, **_spelling()},
        "server_header_transformation": "PASS_THROUGH",
        "generate_request_id": False,
        "skip_xff_append": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "local_reply_config": {
            "mappers": [
                {
                    "filter": {"response_flag_filter": {"flags": ["FI"]}},
                    "headers_to_add": [
                        {
                            "header": {"key": "Retry-After", "value": str(retry_after_s)},
                            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                        }
                    ],
                }
            ]
        },
        "route_config": {
            "virtual_hosts": [
                {
                    "name": name,
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"path": FILL_PAGE, "headers": [probes]},
                            "direct_response": {"status": 200, "body_format": fill},
                        },
                        {"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s", **host}},
                    ],
                }
            ]
        },
        "http_filters": [
            _counter(probes),
            _fault(
                "status",
                {
                    "abort": {"http_status": 503, "percentage": _NONE},
                    "abort_percent_runtime": key(one.name, "status", "percent"),
                    "abort_http_status_runtime": key(one.name, "status", "code"),
                },
            ),
            _fault(
                "delay",
                {
                    "delay": {"fixed_delay": "0.5s", "percentage": _NONE},
                    "delay_percent_runtime": key(one.name, "delay", "percent"),
                    "delay_duration_runtime": key(one.name, "delay", "ms"),
                },
            ),
            *(
                _fault(
                    f"slow-body-{rate}",
                    {
                        "response_rate_limit": {"fixed_limit": {"limit_kbps": rate}, "percentage": _NONE},
                        "response_rate_limit_percent_runtime": key(one.name, f"slow-body-{rate}", "percent"),
                    },
                )
                for rate in RATES
            ),
            _typed("envoy.filters.http.router", "filters.http.router.v3.Router", {"suppress_envoy_headers": True}),
        ],
    }
    kind = "filters.network.http_connection_manager.v3.HttpConnectionManager"
    filters = [_typed("envoy.filters.network.http_connection_manager", kind, manager)]
    return {"name": name, "address": _address(one.listen), "filter_chains": [{"filters": filters}]}


def _counter(probes: Mapping[str, Any]) -> dict[str, Any]:
    """Counts the application's requests, whatever the faults below do to them: a rule that is never enforced allows
    what is not a probe of ours."""
    application = {"permissions": [{"any": True}], "principals": [{"not_id": {"header": probes}}]}
    rules = {"action": "ALLOW", "policies": {"application": application}}
    return _typed(
        "harness.count",
        "filters.http.rbac.v3.RBAC",
        {"shadow_rules": rules, "shadow_rules_stat_prefix": "harness"},
    )


def _fault(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return _typed(f"harness.{kind}", "filters.http.fault.v3.HTTPFault", settings)


def _cluster(one: Upstream) -> dict[str, Any]:
    name = prefix(one.name)
    options = {
        # Sooner than servers end a connection that is not used: else a request could meet that end, and get a 503.
        "common_http_protocol_options": {"idle_timeout": "1s"},
        "explicit_http_config": {"http_protocol_options": _spelling()},
    }
    protocol = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    found: dict[str, Any] = {
        "name": name,
        "type": "STATIC" if _is_ip(one.upstream.host) else "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        # A container that was started again may have another address; 5 s of the default would be its recovery's.
        **({"dns_refresh_rate": "0.5s"} if "." not in one.upstream.host and not _is_ip(one.upstream.host) else {}),
        "connect_timeout": _LONG,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(one.upstream)}}]}],
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "priority": "DEFAULT",
                    "max_connections": _MOST,
                    "max_pending_requests": _MOST,
                    "max_requests": _MOST,
                    "max_retries": 0,
                }
            ]
        },
        "typed_extension_protocol_options": {
            protocol: {"@type": f"{_TYPES}upstreams.http.v3.HttpProtocolOptions", **options}
        },
    }
    if one.tls is not None:
        kind = "transport_sockets.tls.v3.UpstreamTlsContext"
        found["transport_socket"] = _typed("envoy.transport_sockets.tls", kind, _tls(one, one.tls))
    return found


def _tls(one: Upstream, tls: Tls) -> dict[str, Any]:
    name = _server_name(one)
    of_ip = _is_ip(name)
    match = {"san_type": "IP_ADDRESS" if of_ip else "DNS", "matcher": {"exact": name}}
    validation = {"trusted_ca": {"filename": tls.ca or SYSTEM_CA}, "match_typed_subject_alt_names": [match]}
    common: dict[str, Any] = {"validation_context": validation}
    if tls.cert is not None and tls.key is not None:
        pair = {"certificate_chain": {"filename": tls.cert}, "private_key": {"filename": tls.key}}
        common["tls_certificates"] = [pair]
    return {"common_tls_context": common, **({} if of_ip else {"sni": name})}


def _server_name(one: Upstream) -> str:
    return (one.tls.name if one.tls is not None else None) or one.upstream.host


def _spelling() -> dict[str, Any]:
    """Names of headers go on as they are written; Envoy would make small letters of them."""
    kind = "http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"
    return {"header_key_format": {"stateful_formatter": _typed("preserve_case", kind, {})}}


def _typed(name: str, kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": _TYPES + kind, **settings}}


def _address(at: Address) -> dict[str, Any]:
    return {"socket_address": {"address": at.host, "port_value": at.port}}


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
