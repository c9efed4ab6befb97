"""Which services there are and where each keeps its code: the one place that says so, for whoever starts, migrates or saves them.

A service is imported when it is made and not before: one that cannot be imported is missing, like one whose database is away, and the
others of the process go on.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, assert_never

from sqlalchemy import MetaData

from cordee import services
from cordee.config.sections.services import Accounts, Batches, Chats, DatabaseSettings, Files, Services, Webhooks
from cordee.config.tree import Config
from cordee.domain.passages import Service
from cordee.domain.record import record
from cordee.services.base.database import connect
from cordee.services.base.ground import Ground
from cordee.services.base.together import App

Section = Accounts | Chats | Files | Batches | Webhooks


@record
class Kept:
    """What a service keeps: where its database is, the history of its schema, and (imported when asked for) its tables."""

    service: Service
    database: DatabaseSettings
    history: Path

    def metadata(self) -> MetaData:
        tables: Any = import_module(f"cordee.services.{self.service.value}.tables")
        metadata: MetaData = tables.metadata
        return metadata


def those_there() -> tuple[Service, ...]:
    """The services whose code is part of this program."""
    return tuple(service for service in Service if find_spec(f"cordee.services.{service.value}.app") is not None)


def kept(config: Services) -> tuple[Kept, ...]:
    """Every service's database."""
    root = Path(services.__path__[0])
    return tuple(
        Kept(service, section(config, service).database, root / service.value / "migrations")
        for service in those_there()
    )


def section(config: Services, service: Service) -> Section:
    """A service's own settings."""
    match service:
        case Service.ACCOUNTS:
            return config.accounts
        case Service.CHATS:
            return config.chats
        case Service.FILES:
            return config.files
        case Service.BATCHES:
            return config.batches
        case Service.WEBHOOKS:
            return config.webhooks
        case _:
            assert_never(service)


def maker(config: Config, service: Service, ground: Ground) -> Callable[[], App]:
    """How the application of `service` is made, over a database of its own: anew for each try to start it."""
    own = section(config.services, service)

    def make() -> App:
        module: Any = import_module(f"cordee.services.{service.value}.app")
        database = connect(own.database, service.value, ground.data)
        app: App = module.create(own, database, ground)
        return app

    return make
