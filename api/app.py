"""The HTTP application. ``uvicorn --factory api.app:create_app`` runs it; settings come from the environment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.audits.routes import router as audits
from api.audits.schemas import AuditSubmission
from api.catalog import load_catalog
from api.datasets.routes import router as datasets
from api.dependencies import Service
from api.documentation import router as documentation
from api.encoders.routes import router as encoders
from api.errors import install_error_handlers
from api.health import router as health
from api.logs import configure_logs
from api.methods.routes import router as methods
from api.middleware import RequestContext
from api.quarantine import remove_leftovers
from api.queue import Doorbell
from api.readiness import Readiness
from api.settings import ApiSettings
from api.storage.objects import ObjectStore
from api.storage.session import create_database_engine, create_sessions
from api.storage.settings import StorageSettings, load_storage_settings

_DESCRIPTION = """\
Audits self-supervised image encoders for backdoors: recovers the trigger, purifies the weights.

Every error is an `application/problem+json` document (RFC 9457)."""


def create_app(settings: ApiSettings | None = None, storage: StorageSettings | None = None) -> FastAPI:
    """The application; nothing is connected before it starts serving. Migrations are not its business."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = _connect(settings or ApiSettings(), storage or load_storage_settings())
        configure_logs(service.settings.log_format)
        service.settings.upload_directory.mkdir(parents=True, exist_ok=True)
        remove_leftovers(service.settings.upload_directory)
        app.state.service = service
        yield
        service.doorbell.close()
        service.engine.dispose()

    app = FastAPI(
        title="encoder-audit",
        version=version("encoder-audit"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        docs_url=None,
        responses={},
    )
    app.add_middleware(RequestContext)
    install_error_handlers(app)
    for router in (audits, encoders, datasets, methods, health, documentation):
        app.include_router(router)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _connect(settings: ApiSettings, storage: StorageSettings) -> Service:
    engine = create_database_engine(storage)
    sessions = create_sessions(engine)
    return Service(
        settings=settings,
        storage=storage,
        catalog=load_catalog(),
        engine=engine,
        sessions=sessions,
        objects=ObjectStore(storage),
        doorbell=Doorbell(storage, sessions),
        readiness=Readiness(),
    )


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with the bodies that we read as streams and without its own idea of a 422."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    schemas: dict[str, Any] = document["components"]["schemas"]
    submission = AuditSubmission.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= submission.pop("$defs", {})
    schemas["AuditSubmission"] = submission
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path in document["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                _keep_problem_type(response)
    app.openapi_schema = document
    return document


def _keep_problem_type(response: dict[str, Any]) -> None:
    """FastAPI files a declared error model under application/json too; our errors come as problem+json only."""
    content = response.get("content", {})
    if "application/problem+json" in content:
        content.pop("application/json", None)
