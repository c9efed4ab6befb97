"""`cordee chats`: what operators do to the history of conversations."""

from __future__ import annotations

import argparse
from pathlib import Path

from cordee.cli.complaint import complain
from cordee.cli.same_services import of_services
from cordee.config.load import ConfigError, data_dir

FAILED = 1
USAGE = 2

EXAMPLES = """examples:
  cordee chats rebuild                           make all that is read of conversations anew from what happened
  cordee chats rebuild --after conv_0193…        go on with a rebuild that was interrupted, behind the stream it named last

It can be run while the platform runs: each conversation is as it was until it is done. Nothing that happened is changed."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        "chats", help="look after the history of conversations", formatter_class=form, epilog=EXAMPLES
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    rebuild = actions.add_parser(
        "rebuild", help="make the projections anew from the log",
        description="Make lists, items, responses and search anew from the log of events.",
        formatter_class=form, epilog=EXAMPLES,
    )  # fmt: skip
    rebuild.add_argument("--after", default="", metavar="STREAM", help="only the streams behind this one")
    rebuild.add_argument("--data", metavar="DIR", help="data directory (default: ~/.local/share/cordee)")
    rebuild.add_argument("--config", type=Path, metavar="FILE", help="configuration file")
    rebuild.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # The databases' libraries are for this command alone; the others start faster without.
    from cordee.compose import chats  # noqa: PLC0415

    try:
        data = data_dir(args.data)
        count = chats.rebuild(of_services(args.config, data), data, args.after, print)
    except ConfigError as error:
        return complain(str(error), USAGE)
    except chats.ChatsError as error:
        return complain(str(error), FAILED)
    print(f"{count} streams were read anew.")
    return 0
