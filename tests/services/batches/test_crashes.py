"""Whatever is killed when: every line stands in exactly one file, and no model was asked twice for the same answer."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cordee.config.sections.services import DatabaseSettings
from cordee.services.base.door import Asked, Whole
from cordee.wire.vouch import Vouched
from tests.services.batches.conftest import QUICK, House
from tests.services.batches.doubles import Gateways, plain, request

LINES = 12
LEASE_S = 30.0
PATIENCE_S = 60.0
# Patient with a disk that others use, too.
SETTINGS = msgspec.structs.replace(
    QUICK, jobs=msgspec.structs.replace(QUICK.jobs, lease_s=LEASE_S), database=DatabaseSettings(wait_s=PATIENCE_S)
)


class Dying(Gateways):
    """After `calls_left` more calls the process that asks is dead: before the call had an effect, or after it and before it knew."""

    def __init__(self) -> None:
        super().__init__(lambda body, times: (400, {"error": {}}) if body.get("seed") else plain(body, times))
        self.calls_left: int | None = None
        self.knows = True
        self.dead = asyncio.Event()

    async def ask(self, caller: Vouched, asked: Asked) -> Whole:
        is_last = self.calls_left is not None and self.calls_left <= 0
        if self.calls_left is not None:
            self.calls_left -= 1
        if self.dead.is_set() or (is_last and self.knows):
            await self._die()
        answer = await super().ask(caller, asked)
        if is_last:
            await self._die()
        return answer

    async def _die(self) -> None:
        self.dead.set()
        await asyncio.Event().wait()


async def _nothing(*_: object) -> None:
    """A process that was killed lets nothing go: its lease has to end."""


async def _rehearse(data: Path, deaths: list[tuple[int, bool]], cancels: bool) -> None:
    door, batch_id, shift_s = Dying(), "", 0.0
    for calls, knows in [*deaths, (-1, True)]:
        house = House(SETTINGS, data, door)
        house.shift_s = shift_s
        shift_s += LEASE_S + 1
        door.calls_left = None  # nothing dies of what was left to the life before
        door.dead.clear()
        async with asyncio.timeout(PATIENCE_S), house.living():
            if not batch_id:
                batch_id = (await house.begin(*(request(f"r{n}", seed=n % 3 == 0) for n in range(LINES))))["id"]
            door.calls_left, door.knows = (calls, knows) if calls >= 0 else (None, True)
            if cancels and calls < 0:
                await house.ask("POST", f"/v1/batches/{batch_id}/cancel")
            while not door.dead.is_set():
                found = await house.ok("GET", f"/v1/batches/{batch_id}")
                if found["status"] in ("completed", "cancelled"):
                    break
                await asyncio.sleep(0.02)
            house.app.state.works.service.jobs.release = _nothing
    outcomes = house.outcomes(found)
    if found["status"] == "cancelled" and not found["request_counts"]["total"]:
        assert (
            found["in_progress_at"] is None
        )  # before its input was read to the end: nothing was asked, so nothing is said
        assert not outcomes["output_file_id"] + outcomes["error_file_id"]
        return
    assert sorted(outcomes["output_file_id"] + outcomes["error_file_id"]) == sorted(f"r{n}" for n in range(LINES))
    assert found["request_counts"]["completed"] == len(outcomes["output_file_id"])
    assert found["request_counts"]["failed"] == len(outcomes["error_file_id"])
    assert {n for key, n in door.effects.items() if ".output" not in key and ".error" not in key} <= {1}
    assert sum(purpose == "batch_output" for purpose, _ in door.files.values()) == sum(map(bool, outcomes.values()))


@pytest.mark.e2e
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, LINES + 4), st.booleans()), max_size=4), st.booleans())
def test_in_any_order_of_crashes_each_line_stands_in_exactly_one_file(
    migrated_batches: Path, deaths: list[tuple[int, bool]], cancels: bool
):
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "services").mkdir()
        shutil.copy(migrated_batches, Path(directory) / "services")
        asyncio.run(_rehearse(Path(directory), deaths, cancels))


def test_a_crash_after_every_answer_and_before_it_was_written_down_repeats_nothing(
    migrated_batches: Path, tmp_path: Path
):
    (tmp_path / "services").mkdir()
    shutil.copy(migrated_batches, tmp_path / "services")
    asyncio.run(_rehearse(tmp_path, [(2, False), (3, False), (LINES, False)], cancels=False))
