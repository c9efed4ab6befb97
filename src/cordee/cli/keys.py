"""`cordee keys`: who may call. A key is shown when it is made and never again."""

from __future__ import annotations

import argparse
import sys
import time

from rich.console import Console
from rich.table import Table

from cordee.adapters.keyring import SCOPES, KeysError, create_key, read_keys, revoke_key
from cordee.config.load import ConfigError, data_dir
from cordee.domain.caller import INFERENCE, Allowances

FAILURE, USAGE_ERROR = 1, 2

_EXAMPLES = """examples:
  cordee keys create alice                                      a key for alice; shown once
  cordee keys create batch --requests-per-minute 60 --concurrent 4
  cordee keys create ops --scope admin --scope inference
  cordee keys list
  cordee keys revoke key-0123456789ab                           in force everywhere within about a second

Running gateways of the same data directory follow within about a second."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    form = argparse.RawDescriptionHelpFormatter
    top = commands.add_parser("keys", help="create, list and revoke API keys", epilog=_EXAMPLES, formatter_class=form)
    actions = top.add_subparsers(metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key and print it, once", epilog=_EXAMPLES, formatter_class=form)
    create.add_argument("name", metavar="NAME", help="who it is for")
    create.add_argument("--tenant", help="whom its use is counted with (default: NAME)")
    create.add_argument(
        "--scope", action="append", choices=SCOPES, help=f"what it may do; repeat for more (default: {INFERENCE})"
    )
    create.add_argument(
        "--requests-per-minute", type=int, metavar="N", help="at most N calls a minute (default: no limit)"
    )
    create.add_argument("--concurrent", type=int, metavar="N", help="at most N calls at once (default: no limit)")
    create.set_defaults(run=_create)
    listing = actions.add_parser("list", help="list the keys there are", epilog=_EXAMPLES, formatter_class=form)
    listing.set_defaults(run=_list)
    revoke = actions.add_parser("revoke", help="take a key away", epilog=_EXAMPLES, formatter_class=form)
    revoke.add_argument("id", metavar="ID", help="the id that `cordee keys list` shows")
    revoke.set_defaults(run=_revoke)
    for action in (create, listing, revoke):
        action.add_argument("--data", metavar="DIR", help="data directory")


def _create(args: argparse.Namespace) -> int:
    allowances = Allowances(args.requests_per_minute, args.concurrent)
    try:
        scopes = tuple(args.scope or (INFERENCE,))
        key, record = create_key(
            data_dir(args.data), args.name, tenant=args.tenant, scopes=scopes, allowances=allowances
        )
    except (KeysError, ConfigError) as error:
        return _failed(error)
    print(key)  # alone on standard output, so that KEY=$(cordee keys create …) works
    print(f"{record.id} for {record.name}. This is the only time the key is shown.", file=sys.stderr)
    return 0


def _list(args: argparse.Namespace) -> int:
    try:
        records = read_keys(data_dir(args.data))
    except (KeysError, ConfigError) as error:
        return _failed(error)
    if not records:
        print("no keys yet, besides the admin key; `cordee keys create NAME` makes one")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "name", "tenant", "scopes", "per minute", "at once", "created"):
        table.add_column(column, justify="right" if column in ("per minute", "at once") else "left", overflow="fold")
    for record in records:
        created = time.strftime("%Y-%m-%d", time.gmtime(record.created))
        limits = (
            "–" if limit is None else str(limit) for limit in (record.requests_per_minute, record.concurrent_calls)
        )
        table.add_row(record.id, record.name, record.tenant, " ".join(record.scopes), *limits, created)
    Console(markup=False, highlight=False).print(table)
    return 0


def _revoke(args: argparse.Namespace) -> int:
    try:
        record = revoke_key(data_dir(args.data), args.id)
    except (KeysError, ConfigError) as error:
        return _failed(error)
    print(f"{record.id} of {record.name} is revoked")
    return 0


def _failed(error: KeysError | ConfigError) -> int:
    print(f"cordee: {error}", file=sys.stderr)
    return USAGE_ERROR if isinstance(error, ConfigError) else FAILURE
