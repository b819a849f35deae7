"""``/livez``: the process answers. ``/readyz``: so do the engines, and the schema is the one this code expects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import redis
from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from api.dependencies import Service, ServiceDep
from api.errors import Fault, RequestProblem
from api.problems import problems
from api.storage.migrate import current_revision, newest_revision
from api.storage.objects import ObjectStoreError

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process answers."""

    status: str = "ok"


class Ready(BaseModel):
    """Every engine answers."""

    status: str = "ok"
    checks: Annotated[dict[str, str], Field(description="engine -> ok")]


@router.get("/livez", operation_id="getLiveness", summary="Is the process alive?", responses=problems())
def get_liveness() -> Alive:
    """Asks nobody else."""
    return Alive()


@router.get("/readyz", operation_id="getReadiness", summary="Can audits be taken?", responses=problems(503))
def get_readiness(service: ServiceDep) -> Ready:
    """Asks database, broker and object storage, at most every two seconds."""
    found = service.readiness.answer(lambda: check_engines(service))
    broken = {name: fault for name, fault in found.items() if fault is not None}
    if broken:
        detail = "; ".join(f"{name}: {fault}" for name, fault in broken.items())
        faults = [Fault(pointer=f"/checks/{name}", detail=fault) for name, fault in broken.items()]
        raise RequestProblem(503, "not_ready", detail, faults=faults, headers={"Retry-After": "5"})
    return Ready(checks=dict.fromkeys(found, "ok"))


def check_engines(service: Service) -> dict[str, str | None]:
    """Engine -> None if it answers, else what is wrong with it (without addresses, which may hold passwords)."""
    checks: dict[str, Callable[[Service], str | None]] = {
        "database": _check_database,
        "broker": _check_broker,
        "storage": _check_storage,
    }
    return {name: check(service) for name, check in checks.items()}


def _check_database(service: Service) -> str | None:
    try:
        with service.engine.connect() as connection:
            found = current_revision(connection)
    except SQLAlchemyError:
        return "does not answer"
    expected = newest_revision()
    return None if found == expected else f"is at schema {found}, this version needs {expected}"


def _check_broker(service: Service) -> str | None:
    try:
        with redis.Redis.from_url(service.storage.redis_url, socket_connect_timeout=2, socket_timeout=2) as client:
            client.ping()
    except (redis.RedisError, OSError):
        return "does not answer"
    return None


def _check_storage(service: Service) -> str | None:
    try:
        service.objects.check()
    except ObjectStoreError:
        return "does not answer"
    return None
