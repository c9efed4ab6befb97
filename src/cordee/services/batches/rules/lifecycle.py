"""How a batch goes from one status to the next, and what is counted on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cordee.services.base.errors import conflict
from cordee.services.batches.records import Batch, Fate, Fault, Result, Status

_CAN_BE_CANCELLED = frozenset({Status.VALIDATING, Status.IN_PROGRESS})
_CANCELS = frozenset({Status.CANCELLING, Status.CANCELLED})


def validated(batch: Batch, total: int, model: str | None, now: float) -> Batch:
    """All its lines are read. One that is being cancelled goes on with that."""
    status = Status.IN_PROGRESS if batch.status is Status.VALIDATING else batch.status
    return replace(batch, status=status, total=total, model=model, in_progress_at=now)


def refused(batch: Batch, faults: Sequence[Fault], now: float) -> Batch:
    """Its input cannot be run."""
    return replace(batch, status=Status.FAILED, faults=tuple(faults), failed_at=now)


def tally(batch: Batch, results: Sequence[Result]) -> Batch:
    """Its counts with these results, which were not counted before."""
    served = sum(result.fate is Fate.SERVED for result in results)
    usage = batch.usage
    for result in results:
        usage = usage + result.usage
    return replace(
        batch, completed=batch.completed + served, failed=batch.failed + len(results) - served, usage=usage
    )  # fmt: skip


def may_go_on(batch: Batch, now: float) -> bool:
    """Whether more of its lines may be asked."""
    return batch.status is Status.IN_PROGRESS and now < batch.expires_at


def finalizing(batch: Batch, now: float, *, is_whole: bool) -> Batch:
    """No line is asked any more. `is_whole`: every line was answered; decided once, so that it stays when this is done again."""
    if batch.finalizing_at is not None:
        return batch
    if batch.status is Status.CANCELLING:
        return replace(batch, finalizing_at=now)
    return replace(batch, status=Status.FINALIZING, finalizing_at=now, expired_at=None if is_whole else now)


def end_of(batch: Batch) -> Status:
    """How one that is finalizing will end."""
    if batch.status is Status.CANCELLING:
        return Status.CANCELLED
    return Status.COMPLETED if batch.expired_at is None else Status.EXPIRED


def given_up(batch: Batch, lines: int) -> Batch:
    """So many of its lines have failed because they were never answered."""
    return replace(batch, failed=batch.failed + lines)


def ended(batch: Batch, end: Status, now: float) -> Batch:
    """Its files are stored."""
    match end:
        case Status.COMPLETED:
            return replace(batch, status=end, completed_at=now)
        case Status.EXPIRED:
            return replace(batch, status=end, expired_at=now)
        case Status.CANCELLED:
            return replace(batch, status=end, cancelled_at=now)
        case _:
            raise AssertionError(f"{end} is no end of a batch that was run")


def cancelled(batch: Batch, now: float) -> Batch:
    """Somebody wants it to end early; twice is as good as once. Raises Problem (409)."""
    if batch.status in _CANCELS:
        return batch
    if batch.status not in _CAN_BE_CANCELLED:
        raise conflict(f"Batch {batch.id} is {batch.status.value}, so it cannot be cancelled any more.")
    return replace(batch, status=Status.CANCELLING, cancelling_at=now)
