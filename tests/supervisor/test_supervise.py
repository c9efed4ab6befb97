"""The supervisor over real stand-in processes: ready, restarted, given up, ended in order."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from cordee.adapters.processes import Program
from cordee.supervisor.addresses import private_ports, resolve
from cordee.supervisor.asking import NotRunningError, ask_reload, ask_status, ask_stop, control_path
from cordee.supervisor.claim import Claim
from cordee.supervisor.events import Event
from cordee.supervisor.reloading import RefusedError, Taken
from cordee.supervisor.status import ProcessStatus, Role
from cordee.supervisor.supervise import Platform, Supervisor
from cordee.supervisor.watched import Spec

pytestmark = pytest.mark.e2e

STANDIN = Path(__file__).with_name("standin.py")
PATIENCE_S = 60.0  # for a whole scenario: on a busy machine each of its starts takes seconds


class Rehearsal:
    """A supervisor over stand-ins named by role and by how they behave, and everything that it said."""

    def __init__(
        self, data: Path, how: dict[str, str], stop_s: float = 5.0, silent_s: float = 0.0, services_s: float = 20.0
    ) -> None:
        self.data = data
        self.claim = Claim.take(data)
        self.events: list[Event] = []
        self.reloads: list[Taken | RefusedError] = []
        port = private_ports(1, str(data))[0]
        control = control_path(data)
        environment = {"PATH": os.environ["PATH"], "CORDEE_CONTROL": str(control)}
        specs = []
        for name, behaviour in {**how, "web-1": f"http:{port}"}.items():
            argv = (sys.executable, str(STANDIN), name, behaviour)
            role: Role = "web" if name.startswith("web") else "services" if name.startswith("services") else "worker"
            program = Program(argv, environment, data / "log" / f"{name}.log")
            specs.append(
                Spec(name, role, 1, f"address of {name}", program, "P1 → core 0", "m", is_essential=role != "services")
            )
        self.platform = Platform(
            specs=tuple(specs),
            model="m",
            web=resolve(f"127.0.0.1:{port}", "--web"),
            mobile=None,
            edge_admin=None,
            control=control,
            key=data / "admin.key",
            certificate=None,
            revision="one",
            reload=self.reload,
            backoff_s=0.05,
            backoff_s_max=0.2,
            deaths_max=4,
            window_s=60.0,
            silent_s=silent_s,
            stop_s=stop_s,
            services_s=services_s,
        )

    def reload(self) -> Taken:
        taken = self.reloads.pop(0)
        if isinstance(taken, RefusedError):
            raise taken
        return taken

    def run(self, play: Callable[[Supervisor], Awaitable[None]]) -> Supervisor:
        """Run it, with `play` beside it; ends when `play` has ended it."""

        async def both() -> Supervisor:
            supervisor = Supervisor(self.platform, self.claim, os.getpid(), self.events.append)
            async with asyncio.timeout(PATIENCE_S):
                running = asyncio.create_task(supervisor.run())
                await play(supervisor)
                await running
            return supervisor

        try:
            return asyncio.run(both())
        finally:
            self.claim.release()

    def said(self, what: str) -> list[str]:
        return [event.name for event in self.events if event.what == what]

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            await asyncio.sleep(0.01)


def born_again(supervisor: Supervisor, name: str, before: int) -> bool:
    return process(supervisor, name).pid not in (0, before)


def process(supervisor: Supervisor, name: str) -> ProcessStatus:
    return next(one for one in supervisor.status().processes if one.name == name)


def test_all_are_ready_and_end_gateways_first(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, {"worker-1": "", "worker-2": ""})

    async def play(supervisor: Supervisor) -> None:
        await rehearsal.until(lambda: bool(rehearsal.said("all-ready")))
        status = await asyncio.to_thread(ask_status, tmp_path)
        assert status.state == "ready"
        assert [one.name for one in status.processes] == ["supervisor", "worker-1", "worker-2", "web-1"]
        worker = status.processes[1]
        assert (worker.role, worker.server, worker.state, worker.model, worker.load) == (
            "worker",
            1,
            "ready",
            "m",
            {"open": 1},
        )
        assert os.getpgid(worker.pid) == worker.pid
        supervisor.stop()

    supervisor = rehearsal.run(play)
    assert supervisor.failure is None
    stopped = rehearsal.said("stopped")
    assert stopped[0] == "web-1"
    assert stopped[-1] == ""
    assert not (tmp_path / "run" / "control.sock").exists()
    with pytest.raises(NotRunningError, match="cordee up --data"):
        ask_status(tmp_path)


def test_who_dies_is_started_again_and_who_keeps_dying_is_given_up_while_the_rest_goes_on(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, {"worker-1": "", "worker-2": ""})

    async def play(supervisor: Supervisor) -> None:
        await rehearsal.until(lambda: bool(rehearsal.said("all-ready")))
        for death in range(1, 4):
            first = process(supervisor, "worker-1").pid
            os.kill(first, signal.SIGKILL)
            await rehearsal.until(partial(born_again, supervisor, "worker-1", first))
            await rehearsal.until(lambda: process(supervisor, "worker-1").state == "ready")
            assert process(supervisor, "worker-1").restarts == death
        os.kill(process(supervisor, "worker-1").pid, signal.SIGKILL)
        await rehearsal.until(lambda: process(supervisor, "worker-1").state == "failed")
        status = supervisor.status()
        assert status.state == "degraded"
        assert process(supervisor, "worker-2").state == "ready"
        await asyncio.to_thread(ask_stop, tmp_path, PATIENCE_S)

    assert rehearsal.run(play).failure is None
    assert rehearsal.said("given-up") == ["worker-1"]
    assert "SIGKILL" in next(event for event in rehearsal.events if event.what == "died").line()


def test_who_stays_silent_for_too_long_is_killed_and_started_again(tmp_path: Path) -> None:
    # So long that one late look, which counts a third of it at most, does not jump over "silent", which begins after 3 s.
    rehearsal = Rehearsal(tmp_path, {"worker-1": "", "worker-2": ""}, silent_s=5.0)

    async def play(supervisor: Supervisor) -> None:
        await rehearsal.until(lambda: bool(rehearsal.said("all-ready")))
        frozen = process(supervisor, "worker-1").pid
        os.kill(frozen, signal.SIGSTOP)
        await rehearsal.until(partial(born_again, supervisor, "worker-1", frozen))
        await rehearsal.until(lambda: process(supervisor, "worker-1").state == "ready")
        assert process(supervisor, "worker-1").restarts == 1
        supervisor.stop()

    rehearsal.run(play)
    told = [event.what for event in rehearsal.events if event.name == "worker-1"]
    assert told[2:6] == ["silent", "lost", "died", "started"]
    assert rehearsal.said("silent") == rehearsal.said("lost") == ["worker-1"]


def test_a_process_that_dies_at_every_start_ends_the_start_with_its_last_words(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, {"worker-1": "quick-death"})

    async def play(supervisor: Supervisor) -> None:
        await rehearsal.until(lambda: supervisor.stopping)

    failure = rehearsal.run(play).failure
    assert failure is not None
    assert failure.code == 1
    assert "worker-1 ended 3 times with exit status 1 before it was ready" in failure.message
    assert "something is broken here" in failure.message
    assert str(tmp_path / "log" / "worker-1.log") in failure.message


def test_a_usage_error_is_not_tried_again(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, {"worker-1": "usage-error"})

    async def play(supervisor: Supervisor) -> None:
        await rehearsal.until(lambda: supervisor.stopping)

    failure = rehearsal.run(play).failure
    assert failure is not None
    assert failure.code == 2
    assert "there is no such model" in failure.message
    assert rehearsal.said("started").count("worker-1") == 1


def test_who_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, {"worker-1": "deaf"}, stop_s=3.0)  # the others end in time, on a busy machine too

    async def play(supervisor: Supervisor) -> None:
        await rehearsal.until(lambda: bool(rehearsal.said("all-ready")))
        supervisor.stop()

    rehearsal.run(play)
    assert rehearsal.said("killing") == ["worker-1"]


def test_a_second_request_kills_at_once(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, {"worker-1": "deaf"}, stop_s=60.0)

    async def play(supervisor: Supervisor) -> None:
        await rehearsal.until(lambda: bool(rehearsal.said("all-ready")))
        supervisor.stop()
        supervisor.kill()

    rehearsal.run(play)
    assert "stopped" in [event.what for event in rehearsal.events]


def test_garbage_on_the_control_socket_disturbs_nobody(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, {})

    async def play(supervisor: Supervisor) -> None:
        await rehearsal.until(lambda: bool(rehearsal.said("all-ready")))
        for garbage in (b"\n", b"{}\n", b'{"kind":"shout"}\n', b"\xff\xfe\n", b"x" * 200_000, b'{"kind":"report"}\n'):
            reader, writer = await asyncio.open_unix_connection(control_path(tmp_path))
            writer.write(garbage)
            assert await reader.read() == b""
            writer.close()
        assert (await asyncio.to_thread(ask_status, tmp_path)).state == "ready"
        supervisor.stop()

    rehearsal.run(play)


def test_a_reload_is_told_to_gateways_until_they_say_they_have_it(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, {"worker-1": "", "web-2": "follows"})
    rehearsal.reloads = [Taken("two", ("queue.wait_s_max",), ("engine.slots",))]

    async def play(supervisor: Supervisor) -> None:
        await rehearsal.until(lambda: bool(rehearsal.said("all-ready")))
        answer = await asyncio.to_thread(ask_reload, tmp_path)
        assert (answer.error, answer.taken, answer.restart) == ("", ["queue.wait_s_max"], ["engine.slots"])
        assert answer.late == []
        before = process(supervisor, "web-2").pid
        os.kill(before, signal.SIGKILL)  # born again, it has the revision of its start and is told the one in force
        await rehearsal.until(lambda: born_again(supervisor, "web-2", before))
        await rehearsal.until(lambda: supervisor._watched["web-2"].revision == "two")
        supervisor.stop()

    rehearsal.run(play)
    assert rehearsal.said("reloaded") == [""]


def test_a_refused_reload_changes_nothing_and_says_why(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, {"worker-1": ""})
    rehearsal.reloads = [RefusedError("cordee.toml, line 3: there is no setting qeue")]

    async def play(supervisor: Supervisor) -> None:
        await rehearsal.until(lambda: bool(rehearsal.said("all-ready")))
        pids = [one.pid for one in supervisor.status().processes]
        answer = await asyncio.to_thread(ask_reload, tmp_path)
        assert answer.error == "cordee.toml, line 3: there is no setting qeue"
        assert [one.pid for one in supervisor.status().processes] == pids
        supervisor.stop()

    rehearsal.run(play)


def test_services_that_lack_something_leave_the_platform_degraded_until_it_is_there(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, {"services-1": "lacks"})

    async def play(supervisor: Supervisor) -> None:
        await rehearsal.until(lambda: bool(rehearsal.said("all-ready")))
        assert supervisor.status().state == "degraded"
        assert process(supervisor, "services-1").missing == {"chats": "its database is away"}
        os.kill(process(supervisor, "services-1").pid, signal.SIGUSR1)
        await rehearsal.until(lambda: supervisor.status().state == "ready")
        supervisor.stop()

    assert rehearsal.run(play).failure is None
    assert rehearsal.said("missing") == rehearsal.said("found") == rehearsal.said("goes-on-without") == ["services-1"]


@pytest.mark.parametrize("how", ["quick-death", "usage-error", "never"])
def test_services_that_do_not_come_up_keep_nobody_waiting_for_long(tmp_path: Path, how: str) -> None:
    rehearsal = Rehearsal(tmp_path, {"services-1": how}, services_s=1.0)

    async def play(supervisor: Supervisor) -> None:
        await rehearsal.until(lambda: bool(rehearsal.said("all-ready")))
        assert supervisor.status().state == "degraded"
        assert process(supervisor, "web-1").state == "ready"
        supervisor.stop()

    assert rehearsal.run(play).failure is None
    assert rehearsal.said("goes-on-without") == ["services-1"]
