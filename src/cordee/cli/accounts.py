"""`cordee accounts`: who owns this installation."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import secrets
import sys
import time
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

from cordee.cli.complaint import complain
from cordee.cli.same_services import of_services
from cordee.config.load import ConfigError, data_dir

FAILED = 1
USAGE = 2
PASSWORD_BYTES = 18

EXAMPLES = """examples:
  cordee accounts create-owner ada@example.com      the first tenant and its owner, who signs in with `cordee login`
  cordee accounts create-owner ada@example.com --tenant "Example Ltd" --name Ada < password.txt"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    accounts = commands.add_parser(
        "accounts", help="make the first owner", description="Make the first owner of this installation.", epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )  # fmt: skip
    what = accounts.add_subparsers(metavar="WHAT", required=True)
    owner = what.add_parser(
        "create-owner", help="the first tenant and its owner",
        description="Make the first tenant, which runs the installation, and its owner. The password is asked for, or read from standard "
        "input when that is no terminal; an empty one is made and shown once.",
        epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter,
    )  # fmt: skip
    owner.add_argument("email", metavar="EMAIL", help="the address to sign in with")
    owner.add_argument("--tenant", default="Operators", metavar="NAME", help="name of the tenant (default: Operators)")
    owner.add_argument("--name", default="", metavar="NAME", help="name of the owner (default: the address)")
    owner.add_argument("--data", metavar="DIR", help="data directory (default: ~/.local/share/cordee)")
    owner.add_argument("--config", type=Path, metavar="FILE", help="configuration file")
    owner.set_defaults(run=_create_owner)


def _create_owner(args: argparse.Namespace) -> int:
    # Only this command needs the databases' libraries.
    from cordee.compose.first_owner import OwnerError, first_owner  # noqa: PLC0415

    try:
        data = data_dir(args.data)
        settings = of_services(args.config, data).services.accounts
    except ConfigError as error:
        return complain(str(error), USAGE)
    typed = _password()
    if typed is None:
        return complain("the two passwords are not the same; try again", USAGE)
    password = typed or secrets.token_urlsafe(PASSWORD_BYTES)
    try:
        tenant = asyncio.run(
            first_owner(settings, data, args.tenant, args.email, args.name or args.email, password, time.time())
        )
    except OwnerError as error:
        return complain(str(error), FAILED)
    print(f"tenant {tenant} ({args.tenant}) with its owner {args.email}")
    if not typed:
        print(f"password: {password}\nIt is kept nowhere and not shown again.")
    print("sign in with: cordee login")
    return 0


def _password() -> str | None:
    """What was typed, "" for nothing; None where the two tries differ."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().removesuffix("\n")
    typed = getpass.getpass("Password (empty: one is made): ")
    return typed if not typed or typed == getpass.getpass("Once more: ") else None
