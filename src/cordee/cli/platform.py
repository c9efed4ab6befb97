"""`cordee up`, `cordee down`, `cordee status`: start everything, end it, see how it is."""

from __future__ import annotations

import argparse
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

import msgspec
from rich.console import Console

from cordee.cli import loading
from cordee.cli.complaint import complain
from cordee.compose import platform
from cordee.compose.reload import resolved_file
from cordee.config.load import ConfigError, data_dir, load
from cordee.config.tree import Config
from cordee.supervisor.asking import NotRunningError, ask_status, ask_stop
from cordee.supervisor.screen import table

FAILED = 1
USAGE = 2
NOT_RUNNING = 3
PIPED_WIDTH = 160  # of the table where nobody said how wide the output is
STOP_MARGIN_S = 15.0  # beyond what each group of processes may take
STOP_GROUPS = 3  # gateways, workers, edge

UP_EXAMPLES = """examples:
  cordee up                                       two servers on this host, http://127.0.0.1:8000/v1
  cordee up --model ./my-model.gguf               the same with another model
  cordee up --model oracle --servers 3            without a model: tokens by rule, for trying things out
  cordee up --data ./second --web 127.0.0.1:9000 --mobile 127.0.0.1:9100
                                                  a second platform beside the first

The admin key is in DIR/admin.key. Logs are in DIR/log. Ctrl-C, or `cordee down`, ends everything;
answers under way are finished first."""

DOWN_EXAMPLES = """examples:
  cordee down                  end the platform of the default data directory
  cordee down --data ./second  end another one"""

STATUS_EXAMPLES = """examples:
  cordee status                a table of what runs
  cordee status --json         the same for programs

exit status: 0 the platform runs (its "state" says how well), 3 nothing runs"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    up = commands.add_parser(
        "up",
        help="start the platform on this host",
        description="Start gateways, workers and the edge on this host, and keep them running until Ctrl-C.",
        epilog=UP_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    _data_option(up)
    up.add_argument(
        "--config", metavar="FILE", type=Path, help="configuration (default: DIR/cordee.toml, ./cordee.toml)"
    )
    up.add_argument("--web", metavar="HOST:PORT", help="address for web clients (default: 127.0.0.1:8000)")
    up.add_argument("--mobile", metavar="HOST:PORT", help="address for mobile clients (default: 127.0.0.1:8100)")
    up.add_argument(
        "--model", metavar="NAME", help='a model of `cordee models list`, the path of a .gguf file, or "oracle"'
    )
    up.add_argument(
        "--servers", metavar="N", type=int, help="failure domains, each with gateways and a worker (default: 2)"
    )
    up.add_argument(
        "--no-edge", action="store_true", help="without Envoy: the first gateways take the addresses themselves"
    )
    up.add_argument(
        "--no-services", action="store_true", help="models only: without accounts, chats, files, batches and webhooks"
    )
    up.set_defaults(run=_up)

    down = commands.add_parser(
        "down",
        help="end the platform",
        description="End the platform: answers under way are finished first.",
        epilog=DOWN_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    _data_option(down)
    down.set_defaults(run=_down)

    status = commands.add_parser(
        "status",
        help="what runs, where, with what load",
        description="Show every process of the platform.",
        epilog=STATUS_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    _data_option(status)
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(run=_status)


def _data_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", metavar="DIR", help="data directory (default: ~/.local/share/cordee)")


def _up(args: argparse.Namespace) -> int:
    overrides = {
        "web.address": args.web,
        "mobile.address": args.mobile,
        "model": args.model,
        "servers": args.servers,
        "edge.enabled": False if args.no_edge else None,
        "services.enabled": False if args.no_services else None,
    }
    try:
        data = data_dir(args.data)
        config = load(args.config, data, overrides)
    except ConfigError as error:
        return complain(str(error), USAGE)
    return platform.run(config, data, lambda: load(args.config, data, overrides))


def _down(args: argparse.Namespace) -> int:
    try:
        data = data_dir(args.data)
        wait_s = STOP_GROUPS * _stop_s(data) + STOP_MARGIN_S
    except ConfigError as error:
        return complain(str(error), USAGE)
    try:
        was = ask_stop(data, wait_s)
    except NotRunningError as error:
        print(error)  # what was wanted is so already
        return 0
    except TimeoutError:
        return complain(
            f"not everything has ended within {wait_s:g} s; `cordee status --data {data}` says what", FAILED
        )
    print(f"ended {len(was.processes)} processes of {data}")
    return 0


def _stop_s(data: Path) -> float:
    """How long a group of processes may take to end, by what the platform runs with: a file that has become wrong since then is no
    reason not to end it."""
    try:
        return load(resolved_file(data), data, environ={}).supervisor.stop_s
    except ConfigError:
        return Config().supervisor.stop_s


def _status(args: argparse.Namespace) -> int:
    try:
        status = ask_status(data_dir(args.data))
    except ConfigError as error:
        return complain(str(error), USAGE)
    except NotRunningError as error:
        return complain(str(error), NOT_RUNNING)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(status), indent=2).decode())
    else:
        console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
        console.print(table(status.processes))
        for process in status.processes:
            for service, why in sorted(process.missing.items()):
                console.print(
                    f"  {process.name} has no {service}: {why}", style="yellow", markup=False, highlight=False
                )
        if len(status.models) > 1:  # a single one is told by its workers
            console.print()
            console.print(loading.table(status))
            console.print()
        for label, address in (("web", status.web), ("mobile", status.mobile)):
            if address:
                console.print(f"  {label:<8}{address}", highlight=False)
        console.print(f"  {'state':<8}{status.state}", highlight=False)
    return 0
