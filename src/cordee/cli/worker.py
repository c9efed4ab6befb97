"""`cordee worker`: one worker alone."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from cordee.adapters.model_sources import ModelError
from cordee.compose.following import Following
from cordee.compose.logs import configure
from cordee.compose.serving import as_served, served_as
from cordee.config.launch import GUEST, WorkerLaunch
from cordee.config.load import ConfigError, data_dir, load

EXAMPLES = """examples:
  cordee worker --listen unix:/tmp/w.sock
      the default model on a unix socket, for gateways of the same user
  cordee worker --listen unix:/tmp/w.sock --model ./my-model.gguf --slots 8 --context 4096
      another model, eight sequences at once of 4096 tokens each
  cordee worker --listen unix:/tmp/w.sock --model oracle
      no model at all: token i of an answer is a function of its seed and i
  cordee worker --listen tls://10.0.0.5:9443 --data /srv/cordee
      for gateways on other hosts that hold a certificate from the same data directory

A gateway in front of it: cordee gateway --listen 127.0.0.1:9000 --replica unix:/tmp/w.sock (see cordee gateway --help)"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "worker", help="run one worker alone", description="Run one worker alone: one model in one process.",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES,
    )  # fmt: skip
    parser.add_argument("--listen", required=True, metavar="ADDRESS", help="unix:/PATH or tls://HOST:PORT")
    parser.add_argument("--model", metavar="NAME|PATH|oracle", help="what it answers with (default: as configured)")
    parser.add_argument("--serves", default="", metavar="NAME", help="the [[serve]] of the configuration that it runs")
    parser.add_argument("--slots", type=int, metavar="N", help="sequences that run at once")
    parser.add_argument("--context", type=int, metavar="TOKENS", help="prompt and answer of one sequence")
    parser.add_argument("--threads", type=int, metavar="N", help="0: as many as the process has processors")
    parser.add_argument("--name", default="worker-1", help="its name in status and logs")
    parser.add_argument("--server", type=int, default=1, help="the server it belongs to")
    parser.add_argument("--data", metavar="DIR", help="data directory")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        data = data_dir(args.data)
        base = config = load(args.config, data, overrides(args))
        one = served_as(config, args.serves) if args.serves else None
        is_guest = one is not None and one.is_guest
        if not args.listen.startswith((GUEST + "/",) if is_guest else ("unix:/", "tls://")):
            forms = "guest:/PATH, where a guest's gateways hear of it" if is_guest else "unix:/PATH or tls://HOST:PORT"
            raise ConfigError(f"--listen {args.listen!r} is not {forms}")
        if one is not None and not is_guest:
            config = as_served(config, one.entry)
    except (ConfigError, ModelError, ValueError) as error:
        print(f"cordee worker: {error}", file=sys.stderr)
        return 2
    configure(config.log_level)
    os.umask(0o077)
    launch = WorkerLaunch(args.name, args.server, args.listen, data, args.serves)
    # Composing a worker imports numpy and the kernels; the other commands start faster without, and a guest needs neither.
    if one is not None and is_guest:
        from cordee.compose import guest  # noqa: PLC0415

        return guest.run(config, launch, one)
    from cordee.compose import worker  # noqa: PLC0415

    following = Following(base, lambda: load(args.config, data, overrides(args)))
    return worker.run(config, launch, following)


def overrides(args: argparse.Namespace) -> dict[str, object]:
    """The settings that the flags stand for. The oracle has slots and a context of its own."""
    section = "oracle" if args.model == "oracle" else "engine"
    given = {
        "model": args.model,
        f"{section}.slots": args.slots,
        f"{section}.context": args.context,
        "engine.threads": args.threads,
    }
    return {key: value for key, value in given.items() if value is not None}
