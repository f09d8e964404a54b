"""The HTTP interface. `uvicorn anomaly_api.app:app`, or `python -m anomaly_api`, which reads API_WORKERS too."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect

from anomaly_api import __version__, scoring
from anomaly_api.middleware import Measure
from anomaly_api.pool import Unavailable
from anomaly_api.schemas import (
    BatchAnswer,
    BatchRequest,
    Invalid,
    PredictRequest,
    Severity,
    decode_batch,
    decode_predict,
    encode,
    invalid,
    openapi,
)
from anomaly_api.service import ClientGone, Service
from anomaly_api.settings import Settings

MAX_BODY = 256 * 1024
GZIP_FROM = 1024


def create_app(settings: Settings) -> FastAPI:
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        _set_up_logging(settings.access_log)
        await service.start()
        # What is loaded now stays: the collector need not walk it again and again under load.
        gc.collect()
        gc.freeze()
        yield
        await service.stop()

    app = FastAPI(title="Blockchain anomaly detection", version=__version__, lifespan=lifespan)
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_FROM, compresslevel=1)
    app.add_middleware(Measure, metrics=service.metrics)

    @app.exception_handler(Unavailable)
    async def unavailable(_: Request, __: Exception) -> Response:
        return JSONResponse({"detail": "Service Unavailable"}, 503, {"Retry-After": "1"})

    @app.exception_handler(Invalid)
    async def unusable(_: Request, error: Exception) -> Response:
        assert isinstance(error, Invalid)
        return JSONResponse({"detail": error.detail}, 422)

    @app.exception_handler(ClientGone)
    @app.exception_handler(ClientDisconnect)
    async def unheard(_: Request, __: Exception) -> Response:
        return Response(status_code=499)  # nginx's number for it; it is seen in the metrics only

    @app.post("/api/v1/predict", openapi_extra=openapi(PredictRequest))
    async def predict(request: Request) -> Response:
        """Score one transaction."""
        body = await _body(request)
        try:
            wanted = decode_predict(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise invalid(error) from error
        return _json(await service.assess(wanted.transaction, request.is_disconnected))

    @app.post("/api/v1/batch/predict", openapi_extra=openapi(BatchRequest))
    async def predict_batch(request: Request) -> Response:
        """Score up to 50 transactions."""
        body = await _body(request)
        try:
            wanted = decode_batch(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise invalid(error) from error
        predictions = await service.predict(wanted.transactions, request.is_disconnected)
        return _json(BatchAnswer(predictions, len(predictions)))

    @app.get("/api/v1/anomalies")
    async def anomalies(limit: Annotated[int, Query(ge=1, le=100)] = 20, severity: Severity | None = None) -> Response:
        """The newest anomalies, newest first."""
        return _json(await service.anomalies(limit, severity))

    @app.get("/api/v1/predictions/{hash}")
    async def prediction(hash_: Annotated[str, Path(alias="hash", pattern="^0x[0-9a-fA-F]{64}$")]) -> Response:
        """A prediction that was acknowledged before."""
        found = await service.stored(hash_)
        if found is None:
            raise HTTPException(404, "no prediction of that transaction")
        return _json(found)

    @app.get("/api/v1/models")
    async def models() -> dict[str, Any]:
        """The models that score."""
        model = {
            "name": "address-zscore",
            "version": scoring.VERSION,
            "status": "active",
            "threshold": scoring.THRESHOLD,
            "features": list(scoring.FEATURES),
        }
        return {"models": [model], "default": scoring.VERSION}

    @app.get("/health")
    async def health() -> Response:
        """Alive. `degraded` names the dependencies that the service is doing without; it is still 200."""
        dependencies = service.health()
        status = "degraded" if "down" in dependencies.values() else "ok"
        return _json({"status": status, "version": __version__, "dependencies": dependencies})

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus text."""
        return Response(service.metrics.text(), media_type=service.metrics.content_type)

    return app


async def _body(request: Request) -> bytes:
    """The whole body. Raises HTTPException 413 beyond MAX_BODY, before it is all in memory."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY:
        raise HTTPException(413, f"the body is larger than {MAX_BODY} bytes")
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise HTTPException(413, f"the body is larger than {MAX_BODY} bytes")
        parts.append(part)
    return b"".join(parts)


def _json(answer: Any) -> Response:
    return Response(encode(answer), media_type="application/json")


def _set_up_logging(access_log: bool) -> None:
    logger = logging.getLogger("anomaly_api")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    if not access_log:
        # uvicorn looks for handlers when a connection opens; a line a request costs a tenth of its time.
        access = logging.getLogger("uvicorn.access")
        access.handlers.clear()
        access.propagate = False


def _from_environment() -> FastAPI:
    try:
        return create_app(Settings.from_environment(os.environ))
    except ValueError as error:
        raise SystemExit(f"anomaly_api: {error}") from None


app = _from_environment()
