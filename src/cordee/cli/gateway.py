"""`cordee gateway`: one gateway alone, in front of any replicas."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from cordee.compose.logs import configure
from cordee.config.launch import GUEST, GatewayLaunch
from cordee.config.load import ConfigError, data_dir, load
from cordee.config.tree import Config

EXAMPLES = """examples:
  cordee gateway --listen 127.0.0.1:9000 --replica http://127.0.0.1:8080
      in front of any OpenAI-compatible server; its models are found at its /v1/models
  cordee gateway --listen 127.0.0.1:9000 --replica http://10.0.0.1:8000 --replica http://10.0.0.2:8000
      two of them, the less loaded one first; when one dies its calls go to the other
  cordee gateway --listen 127.0.0.1:9000 --model oracle --replica unix:/tmp/w.sock
      in front of one of our own workers (see cordee worker --help)

The key that clients send is DIR/admin.key, one of `cordee keys create`, or CORDEE_ADMIN_KEY from the environment.
CORDEE_REPLICA_KEY is sent to servers reached by URL."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "gateway", help="run one gateway alone", description="Run one gateway alone: no edge, no supervisor, no worker.",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES,
    )  # fmt: skip
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="where clients connect")
    parser.add_argument(
        "--replica", action="append", default=[], metavar="URL",
        help="http(s)://HOST:PORT, unix:/PATH or tls://HOST:PORT; may be given several times",
    )  # fmt: skip
    parser.add_argument("--model", metavar="NAME|PATH|oracle", help="the model of the workers reached by link")
    parser.add_argument(
        "--kind", choices=("web", "mobile"), default="web", help="which clients it is for (default: web)"
    )
    parser.add_argument("--grpc", default="", metavar="HOST:PORT", help="where it speaks gRPC too (default: nowhere)")
    parser.add_argument(
        "--store", default="", metavar="URL",
        help="the Redis or Valkey that all gateways share: redis://HOST:PORT, rediss://…, unix:/PATH (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--services", action="append", default=[], metavar="unix:/PATH",
        help="a process of `cordee services` behind it, for accounts, chats, files and batches; may be given several times",
    )  # fmt: skip
    parser.add_argument("--name", default="gateway-1", help="its name in status and logs")
    parser.add_argument("--server", type=int, default=1, help="the server it belongs to")
    parser.add_argument("--gateways", type=int, default=1, metavar="N", help="how many gateways share the replicas")
    parser.add_argument("--data", metavar="DIR", help="data directory")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # Composing a gateway imports everything it needs; the other commands start faster without.
    from cordee.compose import gateway  # noqa: PLC0415

    try:
        data = data_dir(args.data)
        overrides = {"model": args.model} if args.model else {}
        config = load(args.config, data, overrides)
        _check(args, config)
    except ConfigError as error:
        print(f"cordee gateway: {error}", file=sys.stderr)
        return 2
    configure(config.log_level)
    os.umask(0o077)
    data.mkdir(parents=True, exist_ok=True)
    return gateway.run(
        config,
        GatewayLaunch(
            args.name,
            args.server,
            args.kind,
            args.listen,
            tuple(args.replica),
            data,
            args.gateways,
            grpc=args.grpc,
            store=args.store,
            services=tuple(args.services),
        ),
        lambda: load(args.config, data, overrides),
    )


def _check(args: argparse.Namespace, config: Config) -> None:
    for flag, address in (("--listen", args.listen), ("--grpc", args.grpc)):
        host, _, port = address.rpartition(":")
        is_meant = address or flag == "--listen"
        if is_meant and (not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535):
            raise ConfigError(f"{flag} {address!r} is not HOST:PORT, such as 127.0.0.1:9000")
    if args.store and not args.store.startswith(("redis://", "rediss://", "unix:/")):
        raise ConfigError(f"--store {args.store!r} is none of redis://HOST:PORT, rediss://HOST:PORT, unix:/PATH")
    for socket in args.services:
        if not socket.startswith("unix:/"):
            raise ConfigError(f"--services {socket!r} is not unix:/PATH, where a process of `cordee services` listens")
    if not args.replica and not config.replica and not config.cloud:
        raise ConfigError("nobody could answer: give --replica URL, or a [[replica]] or [[cloud]] in the configuration")
    for replica in args.replica:
        if not replica.startswith(("http://", "https://", "unix:/", "tls://", GUEST + "/")):
            raise ConfigError(
                f"--replica {replica!r} is none of http://HOST:PORT, https://…, unix:/PATH, tls://HOST:PORT"
            )
