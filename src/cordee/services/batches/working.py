"""Jobs are asked for, seen and cancelled. Whoever runs the installation (`tenants.read`) sees those of everybody."""

from __future__ import annotations

import msgspec

from cordee.services.base import saga as rules
from cordee.services.base.errors import Problem, conflict, not_found
from cordee.services.base.paging import Page
from cordee.services.base.principal import Principal
from cordee.services.base.saga import Job, Saga
from cordee.services.batches.erasing import FIRST, TENANT, USER, Whom
from cordee.services.batches.keeping import READ, WRITE
from cordee.services.batches.service import Service

TENANTS_READ, TENANTS_WRITE, USERS_WRITE = "tenants.read", "tenants.write", "users.write"
_AGAIN_S = 60


async def erase_tenant(service: Service, who: Principal, tenant: str) -> Job:
    """Raises Problem."""
    who.need(TENANTS_WRITE)
    if tenant == who.tenant:
        said = "This is the tenant that you ask as; who runs the installation cannot erase themselves."
        raise Problem(400, f"tenant: {said}", "tenant", "own_tenant")
    return await _add(service, who, TENANT, Whom(tenant))


async def erase_user(service: Service, who: Principal, user: str, tenant: str | None) -> Job:
    """A user or an application of one's own tenant, or of `tenant`. Raises Problem."""
    if tenant is None or tenant == who.tenant:
        who.need(USERS_WRITE)
    else:
        who.need(TENANTS_WRITE)
    if user == who.subject:
        raise Problem(400, "user: this is you; somebody else has to erase you.", "user", "own_user")
    return await _add(service, who, USER, Whom(tenant or who.tenant, user))


async def _add(service: Service, who: Principal, kind: str, whom: Whom) -> Job:
    most = service.settings.jobs.waiting_max
    async with service.database.writing() as on:
        if await service.jobs.waiting(on, who.tenant, kind) >= most:
            said = f"{most} jobs of this kind have not ended, which is the most there may be; wait until one has."
            raise Problem(429, said, code="too_many_jobs", retry_after_s=_AGAIN_S)
        data = msgspec.json.encode(whom).decode()
        job = await service.jobs.add(on, service.now(), kind, FIRST, who.tenant, who.subject, data)
        await service.tell(on, "job.created", job.id, job.tenant, {"kind": kind, "by": who.key})
    service.awake.set()
    return job


async def seen(service: Service, who: Principal, job_id: str) -> Job:
    """Raises Problem (404)."""
    who.need(READ)
    async with service.database.reading() as on:
        job = await service.jobs.seen(on, job_id, *_of(who))
    if job is None:
        raise not_found("job", job_id)
    return job


async def page(service: Service, who: Principal, asked: Page) -> list[Job]:
    """One more than the page holds, if there is one."""
    who.need(READ)
    async with service.database.reading() as on:
        return await service.jobs.page(on, *_of(who), asked)


async def cancel(service: Service, who: Principal, job_id: str, sagas: dict[str, Saga]) -> Job:
    """What can be undone is undone; a batch ends early. Raises Problem (404, 409)."""
    who.need(WRITE)
    async with service.database.writing() as on:
        job = await service.jobs.wanted(on, job_id, *_of(who))
        if job is None:
            raise not_found("job", job_id)
        _need_for(who, job)
        saga = sagas.get(job.kind)
        if job.is_cancelled:
            return job
        if saga is None or saga.index(job.step) is None or not rules.may_cancel(saga, job):
            said = f"Job {job.id} is {job.state.value} at {job.step}, and what it has done cannot be undone."
            raise conflict(said)
        if saga.cancel is not None:
            await saga.cancel(on, job, service.now())
        await service.jobs.mark_cancelled(on, job, service.now())
        found = await service.jobs.seen(on, job_id, *_of(who))
        assert found is not None, "held in this transaction"
    service.awake.set()
    return found


def _need_for(who: Principal, job: Job) -> None:
    """Who cancels an erasure must be one who may ask for it."""
    if job.kind == TENANT:
        who.need(TENANTS_WRITE)
    elif job.kind == USER:
        who.need(USERS_WRITE)


def _of(who: Principal) -> tuple[str | None, str | None]:
    """Tenant and subject whose jobs are seen; None for everybody's."""
    return (None, None) if TENANTS_READ in who.scopes else (who.tenant, who.subject)
