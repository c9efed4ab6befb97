"""`cordee backup`: everything an installation must not lose, while it runs.

Databases first, each as of one moment, then the data directory (keys, secrets, certificates, contents of files, the configuration) and
what lies in a bucket. Left out is what a start makes anew: sockets, logs, the shared store of calls under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from cordee import __version__
from cordee.compose.saving import databases, places, room
from cordee.compose.saving.archive import Writer
from cordee.compose.saving.objects import Bucket
from cordee.compose.saving.problem import SavingError
from cordee.compose.saving.scratch import scratch
from cordee.compose.service_apps import kept
from cordee.config.load import Loaded
from cordee.config.sections.services import Services
from cordee.config.tree import Config

FORMAT = 1
ABOUT = "about.json"
CONFIG = "config.toml"
DATA = "data/"
LEFT_OUT = frozenset({"run", "log", "store"})  # folders of the data directory that a start makes anew
LEFT_OUT_PREFIXES = (".restoring", "before-restore-")
LEFT_OUT_SUFFIXES = (".migrating", ".part", ".tmp")
DATABASE_SUFFIXES = (".db", ".db-wal", ".db-shm", ".db-journal")  # in services/: copied by themselves
HALF = "#"  # in the name of a content that is still being written
READ_AT_ONCE_BYTES = 16 * 1024 * 1024  # files up to this are taken in one look, whatever becomes of them meanwhile


class About(msgspec.Struct, frozen=True):
    """What a backup says of itself. `made_s`: seconds of the epoch."""

    format: int
    version: str
    made_s: float


def run(
    loaded: Loaded,
    data: Path,
    place: str,
    passphrase: bytes | None,
    say: Callable[[str], None],
    *,
    ignores_room: bool = False,
) -> None:
    """Raises SavingError; then there is no backup."""
    if not data.is_dir():
        raise SavingError(f"{data} is no data directory: there is nothing to save")
    if not ignores_room:
        room.check(asyncio.run(_needs(loaded.config, data, place)))
    with places.writing(place) as sink, scratch(data / "run") as beside:
        writer = Writer(sink, passphrase)
        writer.put(ABOUT, msgspec.json.encode(About(FORMAT, __version__, time.time())))
        asyncio.run(_databases(loaded.config, data, writer, beside, say))
        _directory(data, writer)
        if loaded.file is not None and loaded.file.absolute().parent != data:
            writer.put(CONFIG, loaded.file.read_bytes())
        if loaded.config.services.files.bucket.url:
            say(f"{Bucket(loaded.config.services.files, data).save(writer)} objects of the bucket")
        writer.close()
        say(f"{writer.entries} entries")
    for line in _elsewhere(loaded.config.services, data):
        say(f"NOT in the backup, keep it yourself: {line}")


async def _needs(config: Config, data: Path, place: str) -> list[room.Need]:
    """Room for the backup where it goes, and for a copy of the largest database in the data directory meanwhile."""
    sizes = [await databases.size(one, data) for one in kept(config.services)]
    needs = [room.Need(data, max((one.copied for one in sizes), default=0), "a copy of a database beside it")]
    if not place.startswith(places.S3):
        contents = sum(map(room.in_archive, _sizes(files_of(data))))
        if config.services.files.bucket.url:
            contents += sum(map(room.in_archive, Bucket(config.services.files, data).sizes()))
        whole = contents + sum(one.whole for one in sizes) + room.WORKING_BYTES
        needs.insert(0, room.Need(Path(place).parent, whole, "the backup"))
    return needs


def _sizes(files: Iterator[Path]) -> Iterator[int]:
    """Of those that were not deleted since they were listed."""
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            yield path.lstat().st_size


async def _databases(config: Config, data: Path, writer: Writer, beside: Path, say: Callable[[str], None]) -> None:
    for one in kept(config.services):
        if await databases.save(one, data, writer, beside):
            say(f"database of {one.service.value}")


def _directory(data: Path, writer: Writer) -> None:
    for path in files_of(data):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # gone since it was listed
        except OSError as error:
            raise SavingError(f"{path} cannot be read: {error.strerror}; run as its owner") from error
        name = DATA + path.relative_to(data).as_posix()
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if size > READ_AT_ONCE_BYTES:
                writer.add(name, size, file)
            else:
                content = file.read()
                writer.add(name, len(content), io.BytesIO(content))


def files_of(data: Path) -> Iterator[Path]:
    """The plain files of a data directory that a backup takes as they are."""
    for folder, folders, names in os.walk(data):
        here = Path(folder)
        is_top, is_services = here == data, here == data / "services"
        folders[:] = sorted(
            name for name in folders if not (is_top and (name in LEFT_OUT or name.startswith(LEFT_OUT_PREFIXES)))
        )
        for name in sorted(names):
            if name.endswith(LEFT_OUT_SUFFIXES) or (is_services and name.endswith(DATABASE_SUFFIXES)) or HALF in name:
                continue
            if is_top and name.startswith(LEFT_OUT_PREFIXES):
                continue
            if stat.S_ISREG((here / name).lstat().st_mode):
                yield here / name


def _elsewhere(services: Services, data: Path) -> Iterator[str]:
    """Secrets without which what is in the backup cannot be read, and which are not in it."""
    encryption = services.files.encryption
    if encryption.key_env:
        yield f"the environment variable {encryption.key_env} (services.files.encryption.key_env)"
    for file in (encryption.key_file, *encryption.earlier_key_files):
        if file and data not in Path(file).expanduser().absolute().parents:
            yield f"{file} (services.files.encryption)"


def name_now(directory: Path, now: float, *, is_sealed: bool) -> Path:
    """A name for a backup where only the directory was said."""
    when = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    return directory / f"cordee-{when}.tar.gz{'.sealed' if is_sealed else ''}"
