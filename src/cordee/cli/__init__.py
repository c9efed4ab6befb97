"""The command line. One file per command, each with `add(commands)` that registers it and the function that runs it."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from cordee import __version__

USAGE = 2  # exit status: something that was asked for cannot be

# Where each command stands, in the order of `cordee --help`. Only what is asked for is imported: a gateway does not carry the
# screens of `cordee up` in its memory.
PLACES = {
    "up": "platform", "down": "platform", "status": "platform", "reload": "reload", "chat": "chat", "models": "models", "keys": "keys",
    "config": "config", "gateway": "gateway", "worker": "worker", "services": "services", "migrate": "migrate",
    "accounts": "accounts", "login": "login", "logout": "login", "whoami": "login",
    "backup": "backup", "restore": "backup", "chats": "chats",
    "jobs": "jobs",
}  # fmt: skip


def parser(command: str = "") -> argparse.ArgumentParser:
    """The parser of one command, or of all."""
    top = argparse.ArgumentParser(
        prog="cordee",
        description="Serve language models to many clients at once, and do not go down.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  cordee up                              start the platform on this host
  cordee up --model ./my-model.gguf      the same with another model
  cordee chat "Why is the sky blue?"     talk to it
  cordee status                          what runs, where, with what load
  cordee down                            end it

Each command has its own help with examples: cordee up --help""",
    )
    top.add_argument("--version", action="version", version=f"cordee {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for place in dict.fromkeys([PLACES[command]] if command in PLACES else PLACES.values()):
        importlib.import_module(f"cordee.cli.{place}").add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    known = parser(words[0] if words else "")
    if not words:
        known.print_help(sys.stderr)
        return USAGE
    args, unknown = known.parse_known_args(words)
    if unknown:
        print(
            f"cordee {words[0]}: there is no {unknown[0]}; `cordee {words[0]} --help` lists what there is",
            file=sys.stderr,
        )
        return USAGE
    try:
        code: int = args.run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone; there is nobody to tell
        return 141
    except OSError as error:  # of writing what was asked for: the commands tell of their own troubles themselves
        print(f"cordee: {error.strerror or error}", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    raise SystemExit(main())
