"""`cordee keys`: who may call. A key is shown when it is made and never again."""

from __future__ import annotations

import argparse
import sys
import time

from rich.console import Console
from rich.table import Table

from cordee.adapters.keyring import (
    SCOPES,
    KeysError,
    Standing,
    create_key,
    limit_key,
    limit_tenant,
    read_all,
    revoke_key,
)
from cordee.config.load import ConfigError, data_dir
from cordee.domain.call import Priority, Sensitivity
from cordee.domain.caller import INFERENCE, Allowances, Budget, Period

FAILURE, USAGE_ERROR = 1, 2

_EXAMPLES = """examples:
  cordee keys create alice                                      a key for alice; shown once
  cordee keys create batch --requests-per-minute 60 --concurrent 4
  cordee keys create ops --scope admin --scope inference
  cordee keys create nightly --priority batch --priority-max batch --tokens-per-day 5000000
  cordee keys limits --key key-0123456789ab --tokens-per-minute 20000
  cordee keys limits --tenant sales --requests-per-minute 600 --money-per-month 250
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
    priorities, sensitivities = [p.name.lower() for p in Priority], [p.name.lower() for p in Sensitivity]
    create.add_argument(
        "--priority", choices=priorities, help="of its calls that do not say (default: standard, or the highest it may)"
    )
    create.add_argument(
        "--priority-max", choices=priorities, default="interactive",
        help="the highest its calls may ask for (default: interactive)",
    )  # fmt: skip
    create.add_argument("--local-only", action="store_true", help="its calls never leave this installation")
    create.add_argument(
        "--sensitivity", choices=sensitivities, default="internal",
        help="when some calls must go to the cloud, public ones go first (default: internal)",
    )  # fmt: skip
    create.add_argument(
        "--region", default="", metavar="REGION", help="where its calls come from that do not say (default: unknown)"
    )
    _add_limits(create)
    create.set_defaults(run=_create)
    listing = actions.add_parser("list", help="list the keys there are", epilog=_EXAMPLES, formatter_class=form)
    listing.set_defaults(run=_list)
    limits = actions.add_parser(
        "limits", help="give a key or a tenant other limits", epilog=_EXAMPLES, formatter_class=form,
        description="Give a key, or all keys of a tenant together, other limits: all of them anew, those not named are lifted.",
    )  # fmt: skip
    whose = limits.add_mutually_exclusive_group(required=True)
    whose.add_argument("--key", metavar="ID", help="the id that `cordee keys list` shows")
    whose.add_argument("--tenant", metavar="TENANT", help="what all keys of this tenant may use together")
    _add_limits(limits)
    limits.set_defaults(run=_limit)
    revoke = actions.add_parser("revoke", help="take a key away", epilog=_EXAMPLES, formatter_class=form)
    revoke.add_argument("id", metavar="ID", help="the id that `cordee keys list` shows")
    revoke.set_defaults(run=_revoke)
    for action in (create, listing, limits, revoke):
        action.add_argument("--data", metavar="DIR", help="data directory")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--requests-per-minute", type=int, metavar="N", help="at most N calls a minute (default: no limit)"
    )
    parser.add_argument(
        "--tokens-per-minute", type=int, metavar="N", help="at most N tokens a minute, of prompts and answers"
    )
    parser.add_argument("--concurrent", type=int, metavar="N", help="at most N calls at once (default: no limit)")
    for period in Period:
        name = period.value
        parser.add_argument(f"--tokens-per-{name}", type=int, metavar="N", help=f"at most N tokens per {name} of UTC")
        parser.add_argument(
            f"--money-per-{name}", type=float, metavar="SUM",
            help=f"at most SUM per {name} of UTC, in the currency of the configuration",
        )  # fmt: skip


def _allowances(args: argparse.Namespace) -> Allowances:
    asked = ((p, getattr(args, f"tokens_per_{p.value}"), getattr(args, f"money_per_{p.value}")) for p in Period)
    budgets = tuple(Budget(period, tokens, money) for period, tokens, money in asked if (tokens, money) != (None, None))
    return Allowances(args.requests_per_minute, args.concurrent, args.tokens_per_minute, budgets)


def _create(args: argparse.Namespace) -> int:
    highest = Priority[args.priority_max.upper()]
    usual = Priority[args.priority.upper()] if args.priority else max(highest, Priority.STANDARD)
    standing = Standing(usual, highest, args.local_only, Sensitivity[args.sensitivity.upper()], args.region.lower())
    try:
        scopes = tuple(args.scope or (INFERENCE,))
        key, record = create_key(
            data_dir(args.data), args.name, tenant=args.tenant, scopes=scopes, allowances=_allowances(args),
            standing=standing,
        )  # fmt: skip
    except (KeysError, ConfigError) as error:
        return _failed(error)
    print(key)  # alone on standard output, so that KEY=$(cordee keys create …) works
    print(f"{record.id} for {record.name}. This is the only time the key is shown.", file=sys.stderr)
    return 0


def _limit(args: argparse.Namespace) -> int:
    allowances = _allowances(args)
    try:
        if args.tenant is not None:
            limit_tenant(data_dir(args.data), args.tenant, allowances)
        else:
            limit_key(data_dir(args.data), args.key, allowances)
    except (KeysError, ConfigError) as error:
        return _failed(error)
    who = f"all keys of {args.tenant} together" if args.tenant is not None else args.key
    print(f"{who}: {words(allowances) or 'no limits'}")
    return 0


def words(allowances: Allowances) -> str:
    """Limits in a few words; "" where there are none."""
    parts = [
        f"{limit} {what}"
        for limit, what in (
            (allowances.requests_per_minute, "requests/min"),
            (allowances.tokens_per_minute, "tokens/min"),
            (allowances.concurrent_calls, "at once"),
        )
        if limit is not None
    ]
    for budget in allowances.budgets:
        if budget.tokens is not None:
            parts.append(f"{budget.tokens} tokens/{budget.period.value}")
        if budget.money is not None:
            parts.append(f"{budget.money:g} money/{budget.period.value}")
    return ", ".join(parts)


def _list(args: argparse.Namespace) -> int:
    try:
        held = read_all(data_dir(args.data))
    except (KeysError, ConfigError) as error:
        return _failed(error)
    if not held.keys:
        print("no keys yet, besides the admin key; `cordee keys create NAME` makes one")
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("id", "name", "tenant", "scopes", "priority", "limits", "created"):
            table.add_column(column, overflow="fold")
        for record in held.keys:
            created = time.strftime("%Y-%m-%d", time.gmtime(record.created))
            standing: str = record.priority
            if record.priority_max != "interactive":
                standing += f" (≤ {record.priority_max})"
            if record.local_only:
                standing += ", local only"
            if record.region:
                standing += f", {record.region}"
            limits = words(record.allowances) or "–"
            scopes = " ".join(record.scopes)
            table.add_row(record.id, record.name, record.tenant, scopes, standing, limits, created)
        Console(markup=False, highlight=False).print(table)
    for tenant in held.tenants.values():
        print(f"tenant {tenant.tenant}: {words(tenant.allowances)}")
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
