"""`cordee jobs`: long work of the services: what runs, where it is, and how to end it."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cordee.adapters.keyring import KeysError
from cordee.cli.asking import AskError, ask
from cordee.cli.chat import key_at, running_at
from cordee.cli.complaint import complain
from cordee.config.load import ConfigError, data_dir, load

FAILED = 1
USAGE = 2
PAGE = 100
SHOWN_MAX = 1000
COLUMNS = ("id", "kind", "state", "step", "tries", "since", "error")
_ID = re.compile(r"[0-9A-Za-z_.-]{1,64}")

EXAMPLES = """examples:
  cordee jobs                              those of everybody, with the admin key; else one's own
  cordee jobs show job_0190…               all that is known of one, as JSON
  cordee jobs cancel job_0190…             undo what it has done, if that can be undone; a batch ends early"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "jobs", help="long work: list, show, cancel", description="Long work of the services, such as batches and erasures.",
        epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("what", nargs="?", choices=("list", "show", "cancel"), default="list", help="default: list")
    parser.add_argument("id", nargs="?", metavar="ID", help="of the job to show or cancel")
    parser.add_argument("--url", metavar="URL", help="address to ask (default: the web address of the platform)")
    parser.add_argument("--data", metavar="DIR", help="data directory (default: ~/.local/share/cordee)")
    parser.add_argument("--config", metavar="FILE", type=Path, help="configuration file")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if (args.what == "list") != (args.id is None):
        return complain(f"`cordee jobs {args.what}` takes {'no' if args.what == 'list' else 'an'} ID", USAGE)
    if args.id is not None and not _ID.fullmatch(args.id):
        return complain("an ID is one that `cordee jobs` shows, such as job_0190…", USAGE)
    try:
        data = data_dir(args.data)
        running, trusted = ("", "") if args.url else running_at(data)
        base = (args.url or running or f"http://{load(args.config, data).web.address}/v1").rstrip("/")
        key = key_at(data, base)
        if args.what == "list":
            _print(_all(base, trusted, key))
            return 0
        method, path = ("GET", f"/jobs/{args.id}") if args.what == "show" else ("POST", f"/jobs/{args.id}/cancel")
        found = ask(base, method, path, trusted, token=key).expect(f"{args.id} could not be asked for")
    except (ConfigError, KeysError) as error:
        return complain(str(error), USAGE)
    except AskError as error:
        return complain(str(error), FAILED)
    json.dump(found, sys.stdout, indent=2)
    print()
    return 0


def _all(base: str, trusted: str, key: str) -> list[dict[str, Any]]:
    """The newest jobs first, no more than can be read. Raises AskError."""
    found: list[dict[str, Any]] = []
    after = ""
    while len(found) < SHOWN_MAX:
        page = ask(base, "GET", f"/jobs?limit={PAGE}{after}", trusted, token=key).expect("jobs could not be listed")
        found += page.get("data", [])
        if not page.get("has_more"):
            break
        after = f"&after={page.get('last_id')}"
    return found


def _print(jobs: list[dict[str, Any]]) -> None:
    if not jobs:
        print("no jobs")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for job in jobs:
        since = time.strftime("%Y-%m-%d %H:%M", time.gmtime(job["created_at"]))
        table.add_row(job["id"], job["kind"], job["state"], job["step"], str(job["tries"]), since, job["error"] or "–")
    Console(markup=False, highlight=False).print(table)
