"""What runs, on one screen: a table of processes, where to send requests, and the first one ready to paste.

Drawing is a pure function of the status and the size of the terminal, so it can be looked at in a test. It fits 80 × 24; where the
processes are too many for the height, those of one role that are ready share a row, and those in trouble keep their own.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence

from rich.box import Box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cordee.supervisor.status import ProcessStatus, Status

STYLES = {
    "ready": "green",
    "starting": "yellow",
    "draining": "yellow",
    "stopping": "yellow",
    "restarting": "yellow",
    "degraded": "yellow",
    "silent": "magenta",
    "failed": "bold red",
    "stopped": "dim",
}
HEADING = Box(
    "    \n    \n ── \n    \n    \n    \n    \n    \n", ascii=True
)  # a line under the headings and nothing else
MARKS = {"ready": "●", "failed": "✗", "stopped": "○", "silent": "◌"}
MARK_OTHER = "◐"
ROLE_ORDER = ("supervisor", "edge", "store", "web", "mobile", "services", "worker")
LINES_AROUND = 16  # of 24: everything but the rows of the table
LABEL_WIDTH = 9
# Heading, width that it keeps when its words change, whether it is set to the right; 80 characters together.
COLUMNS = (
    ("server", 6, True),
    ("role", 8, False),
    ("name", 10, False),
    ("pid", 7, True),
    ("processor", 10, False),
    ("state", 12, False),
    ("load", 10, False),
    ("restarts", 8, True),
)
MARGIN = "  "


def draw(status: Status, height: int, notice: str, home: str = "") -> RenderableType:
    """The whole screen, for a terminal of `height` lines. `notice`: the last thing worth telling, "" for none. Paths below
    `home` are written with ~, so that commands stay on their lines."""
    # The one who draws is told in the title: its row would cost the table the width of its name.
    others = [one for one in status.processes if one.role != "supervisor"]
    return Group(
        _title(status),
        Text(),
        *_addresses(status),
        table(others, rows_max=max(1, height - LINES_AROUND)),
        *_first_request(status, home),
        _foot(status, notice),
    )


def table(processes: Sequence[ProcessStatus], rows_max: int | None = None) -> Table:
    """The processes, by server. Where they are more than `rows_max`, those that are alike share a row."""
    processes = sorted(processes, key=lambda one: (one.server, ROLE_ORDER.index(one.role), one.name))
    rows = _rows(processes, rows_max or len(processes))
    hidden = 0
    if rows_max is not None and len(rows) > rows_max:
        troubled_first = sorted(rows, key=lambda row: row[0].state == "ready")
        rows = troubled_first[: rows_max - 1]
        hidden = sum(map(len, troubled_first[rows_max - 1 :]))
    grid = Table(box=HEADING, padding=0, header_style="bold dim", border_style="dim", show_edge=False)
    for heading, width, right in COLUMNS:
        grid.add_column(heading, min_width=width, justify="right" if right else "left", no_wrap=True)
    before = ""
    for row in rows:
        servers = _servers(row)
        grid.add_row(servers if servers != before else "", *_cells(row))
        before = servers
    if hidden:
        grid.add_row("", Text(f"… {hidden} more", style="dim"), "", "", "", "", "", "")
    return grid


def _rows(processes: Sequence[ProcessStatus], rows_max: int) -> list[list[ProcessStatus]]:
    """Who shares a row: nobody if there is room; else those of one role that are ready; else those of one role in one state."""
    rows = [[one] for one in processes]
    if len(rows) > rows_max:
        rows = _alike(processes, lambda one: (one.role, one.state, "" if one.state == "ready" else one.name))
    if len(rows) > rows_max:
        rows = _alike(processes, lambda one: (one.role, one.state))
    return rows


def _alike(
    processes: Sequence[ProcessStatus], what: Callable[[ProcessStatus], tuple[str, ...]]
) -> list[list[ProcessStatus]]:
    found: dict[tuple[str, ...], list[ProcessStatus]] = {}
    for one in processes:
        found.setdefault(what(one), []).append(one)
    return list(found.values())


def _servers(row: Sequence[ProcessStatus]) -> str:
    first, last = row[0].server, row[-1].server
    return f"{first}–{last}" if first != last else str(first or "–")


def _cells(row: Sequence[ProcessStatus]) -> tuple[Text | str, ...]:
    one, count = row[0], len(row)
    state = Text(f"{MARKS.get(one.state, MARK_OTHER)} {one.state}", style=STYLES.get(one.state, ""))
    restarts = sum(each.restarts for each in row)
    name = f"{count} of them" if count > 1 else one.name if one.name != one.role else ""
    return (
        one.role,
        Text(name, style="bold"),
        Text("" if count > 1 else str(one.pid or "–"), style="dim"),
        Text(one.processor if len({each.processor for each in row}) == 1 else "", style="cyan"),
        state,
        _load(_together(row)),
        Text(str(restarts), style="yellow" if restarts else "dim"),
    )


def _together(row: Sequence[ProcessStatus]) -> dict[str, float]:
    """The load of all of them."""
    return {what: sum(one.load.get(what, 0.0) for one in row) for one in row for what in one.load}


def _load(load: Mapping[str, float]) -> Text:
    if not load:
        return Text("–", style="dim")
    if "open" in load:
        return Text(f"{load['open']:.0f} open", style="" if load["open"] else "dim")
    running, waiting = load.get("running", 0), load.get("waiting", 0)
    capacity = f"/{load['capacity_sequences']:.0f}" if "capacity_sequences" in load else ""
    queue = f" +{waiting:.0f}" if waiting else ""
    return Text(f"{running:.0f}{capacity}{queue}", style="" if running or waiting else "dim")


def _title(status: Status) -> RenderableType:
    servers = len({one.server for one in status.processes if one.server})
    line = Table.grid(expand=True)
    line.add_column()
    line.add_column(justify="right")
    right = Text()
    right.append(f"{MARKS.get(status.state, MARK_OTHER)} {status.state}", style=STYLES.get(status.state, ""))
    right.append(f" · {servers} server{'s' if servers != 1 else ''} · up {_duration(status.uptime_s)} ", style="dim")
    own = next((one.pid for one in status.processes if one.role == "supervisor"), 0)
    line.add_row(Text(f"{MARGIN}Cordée", style="bold").append(f"  pid {own}", style="dim not bold"), right)
    return line


def _addresses(status: Status) -> list[Text]:
    lines = [("model", status.model), ("key", status.key)]
    lines[:0] = [(label, address) for label, address in (("web", status.web), ("mobile", status.mobile)) if address]
    return [
        Text(f"{MARGIN}{label:<{LABEL_WIDTH}}", style="dim").append(value, style="default not dim")
        for label, value in lines
    ] + [Text()]


def first_request(status: Status, home: str = "") -> Sequence[str]:
    """A request that can be pasted into a shell: it reads the key from its file, so the key is on no screen."""
    return (
        f"curl {status.web or status.mobile}/chat/completions \\",
        *((f"  --cacert {_shell_path(status.certificate, home)} \\",) if status.certificate else ()),
        f'  -H "Authorization: Bearer $(cat {_shell_path(status.key, home)})" \\',
        '  -H "Content-Type: application/json" \\',
        f'  -d \'{{"model":"{status.model}","messages":[',
        '       {"role":"user","content":"Say hello."}]}\'',
    )


def _first_request(status: Status, home: str) -> list[Text]:
    return [Text(), *(Text(line, style="cyan", overflow="fold") for line in first_request(status, home))]


def _shell_path(path: str, home: str) -> str:
    if home and path.startswith(home.rstrip("/") + "/"):
        return "~/" + shlex.quote(path.removeprefix(home.rstrip("/") + "/"))
    return shlex.quote(path)


def _foot(status: Status, notice: str) -> Text:
    if status.state == "stopping":
        return Text(f"{MARGIN}Ending: streams under way finish first. Ctrl-C again ends them too.", style="yellow")
    foot = Text(
        f'{MARGIN}or: cordee chat "Hello"   Ctrl-C ends everything', style="dim", no_wrap=True, overflow="ellipsis"
    )
    return Text(f"{MARGIN}{notice}", style="yellow", no_wrap=True, overflow="ellipsis") if notice else foot


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
