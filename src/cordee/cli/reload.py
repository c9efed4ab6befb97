"""`cordee reload`: take the configuration as it is now, without ending anything."""

from __future__ import annotations

import argparse

from cordee.cli.complaint import complain
from cordee.config.load import ConfigError, data_dir
from cordee.supervisor.asking import NotRunningError, ask_reload

REFUSED = 1
USAGE = 2
NOT_RUNNING = 3

EXAMPLES = """examples:
  cordee reload                take the file as it is now; streams go on, new calls get the new rules
  cordee config check          whether the file is right, without taking it
  cordee reload --data ./second

The file that `cordee up` read is read again, with the same environment and command line. It is taken as a whole or not at all.
SIGHUP to the supervisor does the same; to a `cordee gateway` that was started alone too.

exit status: 0 taken (what waits for a restart is named), 1 refused and the old configuration goes on, 3 nothing runs"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "reload",
        help="take a changed configuration without a restart",
        description="Read the configuration anew, and take it where it is right.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--data", metavar="DIR", help="data directory (default: ~/.local/share/cordee)")
    command.set_defaults(run=_reload)


def _reload(args: argparse.Namespace) -> int:
    try:
        answer = ask_reload(data_dir(args.data))
    except ConfigError as error:
        return complain(str(error), USAGE)
    except NotRunningError as error:
        return complain(str(error), NOT_RUNNING)
    if answer.error:
        return complain(f"refused, the configuration before goes on: {answer.error}", REFUSED)
    print(f"taken: {', '.join(answer.taken) or 'nothing has changed that can be taken'}")
    if answer.restart:
        print(f"needs a restart: {', '.join(answer.restart)}")
    if answer.late:
        print(f"not confirmed yet by: {', '.join(answer.late)}; they are told again until they have it")
    return 0
