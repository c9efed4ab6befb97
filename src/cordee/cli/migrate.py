"""`cordee migrate`: the schemas of the services' databases, forwards and back."""

from __future__ import annotations

import argparse
from pathlib import Path

from cordee.cli.complaint import complain
from cordee.cli.same_services import of_services
from cordee.config.load import ConfigError, data_dir

FAILED = 1
USAGE = 2

EXAMPLES = """examples:
  cordee migrate                                 bring every service's database to where this version wants it
  cordee migrate --check                         say where each one is and change nothing; exit status 1 when one is not there
  cordee migrate --service accounts --to 0001    go to an earlier revision, before an older version is started

Services do the first by themselves when they start. Make a backup before going back: what an earlier schema has no place for is
deleted. A database that a newer version has migrated is refused."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "migrate", help="bring the services' databases to another schema",
        description="Bring the databases of the services to the schema of this version, or to a named one.",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES,
    )  # fmt: skip
    parser.add_argument("--service", default="", metavar="NAME", help="only this one: accounts, chats, files …")
    parser.add_argument("--to", default="head", metavar="REVISION", help="where to (default: the newest)")
    parser.add_argument("--check", action="store_true", help="say where each one is, and change nothing")
    parser.add_argument("--drop-everything", action="store_true", help="with --to base: yes, delete all that it keeps")
    parser.add_argument("--data", metavar="DIR", help="data directory (default: ~/.local/share/cordee)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # Alembic and the databases' libraries are for this command alone; the others start faster without.
    from cordee.compose import migrating  # noqa: PLC0415

    wanted = migrating.Wanted(args.service, args.to, only_look=args.check, drops=args.drop_everything)
    try:
        data = data_dir(args.data)
        fine = migrating.run(of_services(args.config, data), data, wanted, print)
    except ConfigError as error:
        return complain(str(error), USAGE)
    except migrating.MigrateError as error:
        return complain(str(error), FAILED)
    return 0 if fine else FAILED
