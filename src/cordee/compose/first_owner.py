"""The first tenant and its owner are made where the installation's data is: whoever may read that may do anything with it already."""

from __future__ import annotations

from pathlib import Path

from cordee.config.sections.services import Accounts
from cordee.services.accounts.app import HISTORY, NAME, SECRET_FILE
from cordee.services.accounts.membership import Person, found
from cordee.services.accounts.passwords import Hasher
from cordee.services.accounts.rules.rights import Role
from cordee.services.accounts.service import Service
from cordee.services.accounts.tables import metadata, outbox, outbox_lease
from cordee.services.accounts.tokens import Mint
from cordee.services.base.database import AwayError, DatabaseError, connect
from cordee.services.base.errors import Problem
from cordee.services.base.migrate import migrate
from cordee.services.base.outbox import Outbox
from cordee.services.base.seal import Seal, secret_of


class OwnerError(Exception):
    """The owner was not made. The message says why."""


async def first_owner(
    settings: Accounts, data: Path, tenant: str, email: str, name: str, password: str, now: float
) -> str:
    """The id of the tenant, which runs the installation from now on. Works beside services that run. Raises OwnerError."""
    try:
        database = connect(settings.database, NAME, data)
        seal = Seal(secret_of(data / "services" / SECRET_FILE))
    except DatabaseError as error:
        raise OwnerError(str(error)) from error
    hasher = Hasher(settings.passwords)
    service = Service(
        settings, database, Outbox(NAME, outbox, outbox_lease, settings.outbox), hasher, Mint(settings, database, seal, lambda: now),
        lambda: now,
    )  # fmt: skip
    try:
        await migrate(database, HISTORY, metadata, settings.database.migrate_wait_s)
        made, _ = await found(service, tenant, Person(email, name, Role.OWNER, password))
    except Problem as problem:
        raise OwnerError(problem.message) from problem
    except (AwayError, DatabaseError) as error:
        raise OwnerError(str(error)) from error
    finally:
        hasher.close()
        await database.close()
    return made.id
