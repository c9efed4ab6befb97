"""The saga that erases a tenant, or one user of it, from all services.

The accounts go first: from then on nobody can sign in or show a key of theirs. Then some time passes in which every gateway learns of
it, so that nothing new comes in behind the erasing, and then service by service everything is erased, a piece per call. None of it can
be undone: such a job can be cancelled until it begins, and goes forward from there, however often a service is away.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cordee.domain.passages import Service as Name
from cordee.services.base.door import Asked
from cordee.services.base.principal import SYSTEM
from cordee.services.base.saga import ImpossibleError, Job, NotYetError, Saga, Step, Turn
from cordee.services.batches.service import Service
from cordee.wire.vouch import Vouched

TENANT, USER = "tenant.erase", "user.erase"
KINDS = (TENANT, USER)
SETTLE = "settle"
_ORDER = tuple(name for name in Name if name is not Name.ACCOUNTS)
_SETTLING = "waits until every gateway knows"
_CONFLICT = 409  # this one must not be erased: the tenant that runs the installation, an owner or an admin
_ANSWER_S = 60.0  # for one call: a piece is small
_CHARACTERS_SHOWN = 200  # of a refusal, in the job's error


class Whom(msgspec.Struct, frozen=True):
    """Who is erased, as the job's row keeps it. `user` None: the whole tenant."""

    tenant: str
    user: str | None = None


class _Done(msgspec.Struct):
    done: bool


class NotErasedError(Exception):
    """A service did not do its part; it is asked again."""


def erase_saga(service: Service, kind: str) -> Saga:
    """One of KINDS."""

    async def settle(turn: Turn) -> None:
        # The wait is in the row, so a crash does not begin it anew: who comes here a second time has waited.
        if turn.job.error != _SETTLING:
            raise NotYetError(service.settings.jobs.settle_s, _SETTLING)

    steps = (
        _erased_from(service, Name.ACCOUNTS),
        Step(SETTLE, settle, is_final=True),
        *(_erased_from(service, name) for name in _ORDER),
    )
    return Saga(kind, steps, service.settings.jobs.erasures_at_once)


def _erased_from(service: Service, name: Name) -> Step:
    async def erase(turn: Turn) -> None:
        whom = whom_of(turn.job)
        body = {"tenant": whom.tenant} | ({} if whom.user is None else {"user": whom.user})
        answer = await _ask(service, turn, f"/v1/{name.value}/erasures", body)
        if not msgspec.json.decode(answer, type=_Done).done:
            raise NotYetError

    return Step(step_of(name), erase, is_final=True)


def step_of(name: Name) -> str:
    return f"erase.{name.value}"


async def _ask(service: Service, turn: Turn, path: str, body: dict[str, Any]) -> bytes:
    """Ask as the installation. Raises ImpossibleError, NotErasedError, DoorError."""
    vouched = Vouched(whom_of(turn.job).tenant, turn.job.id, "", frozenset({SYSTEM}))
    answer = await service.door.ask(vouched, Asked("POST", path, body, timeout_s=_ANSWER_S))
    if 200 <= answer.status < 300:
        return answer.body
    said = f"{path} answered {answer.status}: {answer.body[:_CHARACTERS_SHOWN].decode('utf-8', 'replace')}"
    raise ImpossibleError(said) if answer.status == _CONFLICT else NotErasedError(said)


def whom_of(job: Job) -> Whom:
    return msgspec.json.decode(job.data, type=Whom)


FIRST = step_of(Name.ACCOUNTS)
