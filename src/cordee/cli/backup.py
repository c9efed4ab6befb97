"""`cordee backup` and `cordee restore`: a whole installation into one file, and back."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from cordee.cli.complaint import complain
from cordee.cli.same_services import need_same
from cordee.config.load import ConfigError, data_dir, trace

FAILED = 1
USAGE = 2
PASSPHRASE_BYTES_MIN = 12
PASSPHRASE_BYTES_MAX = 4096
S3 = "s3://"

BACKUP_EXAMPLES = """examples:
  cordee backup ./backups                                  to a new file there, named after the time
  cordee backup cordee.tar.gz                              to this file, which must not exist
  cordee backup cordee.sealed --passphrase-file secret     encrypted; keep the passphrase elsewhere
  cordee backup s3://bucket/cordee.tar.gz                  to an object store: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
                                                           AWS_REGION and AWS_ENDPOINT_URL as its own tools take them

It may run while the platform does. A backup holds keys and everything that people wrote: encrypt it, or keep it as you keep those."""

RESTORE_EXAMPLES = """examples:
  cordee restore cordee.tar.gz --data ./again                  into an empty directory
  cordee restore cordee.sealed --passphrase-file secret
  cordee restore cordee.tar.gz --force                         move aside what is there; rows of PostgreSQL are deleted

Where PostgreSQL or a bucket is used, a cordee.toml that lies in the data directory already, or --config FILE, says where to; else
the configuration in the backup."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    backup = commands.add_parser(
        "backup", help="save databases, files, keys and configuration to one file or S3",
        description="Save everything that must not be lost: databases, files, keys, configuration.",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=BACKUP_EXAMPLES,
    )  # fmt: skip
    backup.add_argument("dest", metavar="DEST", help="a file, a directory, or s3://BUCKET/NAME")
    _common(backup)
    backup.set_defaults(run=_backup)
    restore = commands.add_parser(
        "restore", help="bring back what `cordee backup` saved", description="Restore a backup into an empty installation.",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=RESTORE_EXAMPLES,
    )  # fmt: skip
    restore.add_argument("source", metavar="SRC", help="a file, or s3://BUCKET/NAME")
    restore.add_argument("--force", action="store_true", help="although the installation is not empty")
    _common(restore)
    restore.set_defaults(run=_restore)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="its first line is what the backup is encrypted with"
    )
    parser.add_argument(
        "--ignore-free-space", action="store_true", help="although the disk seems to have less room than it may take"
    )
    parser.add_argument("--data", metavar="DIR", help="data directory (default: ~/.local/share/cordee)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file")


def _backup(args: argparse.Namespace) -> int:
    # Databases and object stores are for these commands alone; the others start faster without.
    from cordee.compose.saving import backup  # noqa: PLC0415
    from cordee.compose.saving.problem import SavingError  # noqa: PLC0415

    try:
        passphrase = _passphrase(args.passphrase_file)
        data = data_dir(args.data)
        place = str(args.dest)
        if not place.startswith(S3):
            path = Path(place).expanduser().absolute()
            place = str(backup.name_now(path, time.time(), is_sealed=passphrase is not None) if path.is_dir() else path)
        loaded = trace(args.config, data)
        need_same(loaded, data)
        backup.run(loaded, data, place, passphrase, print, ignores_room=args.ignore_free_space)
    except ConfigError as error:
        return complain(str(error), USAGE)
    except SavingError as error:
        return complain(str(error), FAILED)
    print(f"saved to {place}")
    return 0


def _restore(args: argparse.Namespace) -> int:
    # As above.
    from cordee.compose.saving import restore  # noqa: PLC0415
    from cordee.compose.saving.problem import SavingError  # noqa: PLC0415

    try:
        passphrase = _passphrase(args.passphrase_file)
        place = args.source if args.source.startswith(S3) else str(Path(args.source).expanduser().absolute())
        restore.run(
            args.config,
            data_dir(args.data),
            place,
            passphrase,
            print,
            force=args.force,
            ignores_room=args.ignore_free_space,
        )
    except ConfigError as error:
        return complain(str(error), USAGE)
    except SavingError as error:
        return complain(str(error), FAILED)
    return 0


def _passphrase(file: Path | None) -> bytes | None:
    """Raises ConfigError."""
    if file is None:
        return None
    try:
        with file.open("rb") as stream:
            line = stream.readline(PASSPHRASE_BYTES_MAX + 1).rstrip(b"\r\n")
    except OSError as error:
        raise ConfigError(f"--passphrase-file {file}: {error.strerror}") from error
    if not PASSPHRASE_BYTES_MIN <= len(line) <= PASSPHRASE_BYTES_MAX:
        raise ConfigError(
            f"--passphrase-file {file}: its first line has {len(line)} bytes; a passphrase has {PASSPHRASE_BYTES_MIN} to "
            f"{PASSPHRASE_BYTES_MAX}"
        )
    return line
