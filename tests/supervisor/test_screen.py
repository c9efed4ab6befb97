"""The screen fits 80 × 24, tells what is wrong first, and shows no secret."""

import io

import pytest
from msgspec.structs import replace
from rich.console import Console

from cordee.supervisor.screen import draw, first_request, table
from cordee.supervisor.status import ProcessStatus, Status


def process(name: str, role: str, server: int, **changed: object) -> ProcessStatus:
    facts = {"pid": 12345, "address": "127.0.0.1:20000", "state": "ready", "processor": "P1 → core 0", "uptime_s": 3.0}
    return ProcessStatus(name=name, role=role, server=server, **(facts | changed))  # type: ignore[arg-type]


def status(*processes: ProcessStatus, state: str = "ready") -> Status:
    return Status(
        state=state,  # type: ignore[arg-type]
        data="/home/somebody/.local/share/cordee",
        model="smollm2-135m-instruct",
        web="http://127.0.0.1:8000/v1",
        mobile="http://127.0.0.1:8100/v1",
        key="/home/somebody/.local/share/cordee/admin.key",
        uptime_s=3723.0,
        processes=list(processes),
    )


PLATFORM = (
    process("supervisor", "supervisor", 0, processor="any"),
    process("edge", "edge", 0, processor="any", load={"open": 3.0}),
    *(process(f"{role}-{server}", role, server) for server in (1, 2) for role in ("web", "mobile")),
    process("worker-1", "worker", 1, load={"running": 3, "waiting": 2, "tokens": 400, "capacity_sequences": 16}),
    process("worker-2", "worker", 2, state="restarting", restarts=11, pid=0),
)


def drawn(of: Status, width: int = 80, height: int = 24, notice: str = "") -> list[str]:
    console = Console(width=width, height=height, record=True, file=io.StringIO(), color_system=None)
    console.print(draw(of, height, notice, "/home/somebody"))
    return console.export_text().splitlines()


def test_the_default_platform_fits_a_small_terminal() -> None:
    lines = drawn(status(*PLATFORM))
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    for word in (
        "worker-2",
        "restarting",
        "3/16 +2",
        "3 open",
        "http://127.0.0.1:8000/v1",
        "admin.key",
        "1:02:03",
    ):
        assert word in text
    assert "…" not in text


def test_services_fit_too() -> None:
    services = process("services-1", "services", 1, processor="any", load={"open": 12.0})
    lines = drawn(status(*PLATFORM[:-1], services))
    assert all(len(line) <= 80 for line in lines)
    assert any("services" in line and "12 open" in line for line in lines)


def test_the_first_request_can_be_pasted() -> None:
    command = "\n".join(first_request(status(), "/home/somebody"))
    assert "$(cat ~/.local/share/cordee/admin.key)" in command
    assert '"model":"smollm2-135m-instruct"' in command
    assert "$(cat '/a b/admin.key')" in "\n".join(first_request(replace(status(), key="/a b/admin.key"), "/home/x"))
    lines = drawn(status(*PLATFORM))
    assert "\n".join(line.rstrip() for line in lines).find(command) > 0


def test_where_there_is_no_room_for_all_those_in_trouble_are_shown() -> None:
    many = [process(f"worker-{server}", "worker", server) for server in range(1, 40)]
    broken = process("worker-99", "worker", 99, state="failed")
    lines = drawn(status(*many, broken, state="degraded"))
    assert len(lines) <= 24
    assert any("worker-99" in line and "failed" in line for line in lines)
    assert any("1–39 worker" in line and "39 of them" in line and "ready" in line for line in lines)
    lines = drawn(status(*many, broken, state="degraded"), height=17)  # hardly any at all
    assert any("40 more" in line for line in lines)


@pytest.mark.parametrize("state", ["starting", "ready"])
def test_two_servers_with_services_are_all_told_of_on_a_small_terminal(state: str) -> None:
    roles = ("web", "mobile", "services", "worker")
    shared = [process(name, name, 0, processor="any", state=state) for name in ("edge", "store")]
    own = [
        process(f"{role}-{server}", role, server, state=state, load={"open": 2.0 * server}, restarts=server)
        for server in (1, 2)
        for role in roles
    ]
    lines = drawn(status(*shared, *own))
    assert len(lines) <= 24
    assert "more" not in "\n".join(lines)
    for role in roles:
        assert next(line.split() for line in lines if "of them" in line and role in line)[-4:] == [
            state,
            "6",
            "open",
            "3",
        ]


def test_who_is_in_trouble_keeps_a_row() -> None:
    well = [process(f"web-{server}", "web", server) for server in range(1, 9)]
    ill = [process(f"worker-{server}", "worker", server, state="restarting", pid=0) for server in range(1, 6)]
    lines = drawn(status(*well, *ill, state="degraded"))
    assert all(any(one.name in line and "restarting" in line for line in lines) for one in ill)
    assert any("8 of them" in line for line in lines)


def test_a_warning_takes_the_place_of_the_hint() -> None:
    assert "died name=worker-1" in drawn(status(*PLATFORM), notice="died name=worker-1")[-1]
    assert "Ctrl-C again" in drawn(status(*PLATFORM, state="stopping"))[-1]


def test_the_table_alone_shows_everybody() -> None:
    assert table(PLATFORM).row_count == len(PLATFORM)
