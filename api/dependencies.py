"""What routes need, made once per application and handed to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine

from api.catalog import Catalog
from api.queue import Doorbell
from api.readiness import Readiness
from api.settings import ApiSettings
from api.storage.objects import ObjectStore
from api.storage.session import Sessions
from api.storage.settings import StorageSettings


@dataclass(frozen=True)
class Service:
    """The engines and the contract, as the routes use them."""

    settings: ApiSettings
    storage: StorageSettings
    catalog: Catalog
    engine: Engine
    sessions: Sessions
    objects: ObjectStore
    doorbell: Doorbell
    readiness: Readiness


def current_service(request: Request) -> Service:
    """The service this application was started with."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(current_service)]
