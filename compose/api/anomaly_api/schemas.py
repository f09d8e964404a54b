"""What comes in and goes out. Decoded and encoded by msgspec: a batch of 50 costs tens of microseconds."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

Severity = Literal["low", "medium", "high", "critical"]
MAX_BATCH = 50

Hash = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-fA-F]{64}$", description="transaction hash")]
Address = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-fA-F]{40}$", description="account address")]
# Bounds that any chain keeps, and under which every statistic stays far from overflow.
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e30)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Transaction(msgspec.Struct, frozen=True, gc=False):
    hash: Hash
    from_address: Address
    to_address: Address
    value: Amount
    gas: Count
    gas_price: Count
    block_number: Count
    timestamp: datetime


class PredictRequest(msgspec.Struct, frozen=True, gc=False):
    transaction: Transaction


class BatchRequest(msgspec.Struct, frozen=True):
    transactions: Annotated[list[Transaction], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """confidence: of the decision, 0.5..1. severity: of an anomaly, else None."""

    transaction_hash: str
    is_anomaly: bool
    confidence: float
    severity: Severity | None
    from_cache: bool
    model_version: str


class Assessed(Prediction, frozen=True, gc=False):
    """risk_score: of the sender, 0 to 1; None where it is not known, and with a prediction that was known."""

    risk_score: float | None


class BatchAnswer(msgspec.Struct, frozen=True):
    predictions: list[Prediction]
    total_processed: int


class Anomaly(msgspec.Struct, frozen=True, gc=False):
    transaction_hash: str
    from_address: str
    to_address: str
    value: float
    severity: Severity
    confidence: float
    model_version: str
    detected_at: datetime


class AnomaliesAnswer(msgspec.Struct, frozen=True):
    """stale: from this process's memory, because the database did not answer."""

    anomalies: list[Anomaly]
    count: int
    stale: bool


class Invalid(Exception):
    """The body cannot be used; `detail` says where and why, in the shape FastAPI uses for a 422."""

    def __init__(self, detail: list[dict[str, Any]]) -> None:
        super().__init__(detail)
        self.detail = detail


decode_predict = msgspec.json.Decoder(PredictRequest).decode
decode_batch = msgspec.json.Decoder(BatchRequest).decode
encode = msgspec.json.Encoder().encode


def invalid(error: msgspec.MsgspecError | UnicodeDecodeError) -> Invalid:
    text = str(error)
    message, _, path = text.partition(" - at `$")
    place: list[str | int] = ["body"]
    for name, index in re.findall(r"\.([A-Za-z_]+)|\[(\d+)\]", path):
        place.append(name or int(index))
    kind = "value_error" if isinstance(error, msgspec.ValidationError) else "json_invalid"
    return Invalid([{"type": kind, "loc": place, "msg": message}])


def openapi(body: type) -> dict[str, Any]:
    """The `openapi_extra` of a route that decodes its body itself."""
    (schema,), parts = msgspec.json.schema_components([body], ref_template="#/components/schemas/{name}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _inline(schema, parts)}}}}


def _inline(schema: Any, parts: dict[str, Any]) -> Any:
    """FastAPI owns the document's components, so references are replaced by what they name."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inline(parts[schema["$ref"].rsplit("/", 1)[1]], parts)
        return {key: _inline(value, parts) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_inline(value, parts) for value in schema]
    return schema
