"""`cordee services`: one process with all services alone."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cordee.cli.complaint import complain
from cordee.compose.logs import configure
from cordee.config.launch import ServicesLaunch
from cordee.config.load import ConfigError, data_dir, load

USAGE = 2
PORT_MAX = 65_535

EXAMPLES = """examples:
  cordee services --listen unix:/tmp/s.sock --gateway 127.0.0.1:9000
      accounts, chats, files and batches for the gateway at 127.0.0.1:9000, which is started with --services unix:/tmp/s.sock
      and with the same --data

What answers on the socket trusts nobody but gateways of the same data directory: clients go through them."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "services", help="run the services alone", description="Run one process with all services alone.",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES,
    )  # fmt: skip
    parser.add_argument("--listen", required=True, metavar="unix:/PATH", help="where gateways connect")
    parser.add_argument(
        "--gateway", action="append", default=[], metavar="HOST:PORT",
        help="a gateway that is asked for models; may be given several times",
    )  # fmt: skip
    parser.add_argument("--name", default="services-1", help="its name in status and logs")
    parser.add_argument("--server", type=int, default=1, help="the server it belongs to")
    parser.add_argument("--data", metavar="DIR", help="data directory")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # Composing the services imports web framework and databases; the other commands start faster without.
    from cordee.compose import services  # noqa: PLC0415

    try:
        data = data_dir(args.data)
        config = load(args.config, data)
        _check(args)
    except ConfigError as error:
        return complain(str(error), USAGE)
    configure(config.log_level)
    os.umask(0o077)
    data.mkdir(parents=True, exist_ok=True)
    return services.run(config, ServicesLaunch(args.name, args.server, args.listen, tuple(args.gateway), data))


def _check(args: argparse.Namespace) -> None:
    if not args.listen.startswith("unix:/"):
        raise ConfigError(f"--listen {args.listen!r} is not unix:/PATH, such as unix:/tmp/s.sock")
    for address in args.gateway:
        host, _, port = address.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= PORT_MAX:
            raise ConfigError(f"--gateway {address!r} is not HOST:PORT, such as 127.0.0.1:9000")
