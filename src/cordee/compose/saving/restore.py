"""`cordee restore`: a backup into an installation that has nothing.

All of it is read and compared with its list before anything is written. Then everything is laid out in a folder beside, databases and
bucket are filled, and last the folder's contents get their names. A restore that was killed leaves a mark that `cordee up` respects;
restoring again with --force begins anew. What --force finds is moved aside, not deleted; rows of a PostgreSQL and objects of a
bucket are.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from cordee.compose.saving import databases, objects, places, room
from cordee.compose.saving.archive import Entry, Reader
from cordee.compose.saving.backup import ABOUT, CONFIG, DATA, FORMAT, About
from cordee.compose.saving.mark import MARK
from cordee.compose.saving.problem import SavingError
from cordee.compose.saving.renewal import renew
from cordee.compose.service_apps import Kept, kept
from cordee.config.file import FILE_NAME
from cordee.config.load import ConfigError, load
from cordee.config.tree import Config
from cordee.domain.passages import Service
from cordee.domain.record import record
from cordee.supervisor.claim import Claim, ClaimError

ASIDE = "before-restore-"
NOT_OURS = frozenset({"run", "log", "lost+found", FILE_NAME})  # that an empty installation may have
_PIECE_CHARACTERS = 200  # of a message of what is wrong


class _Staged:
    """What a backup brings, laid out in `directory`: `data/` as it will be, `databases/` for PostgreSQL."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.tables = directory / "databases"
        self.abouts: dict[str, databases.About] = {}


def run(
    config_file: Path | None,
    data: Path,
    place: str,
    passphrase: bytes | None,
    say: Callable[[str], None],
    *,
    force: bool,
    ignores_room: bool = False,
) -> None:
    """Raises SavingError, ConfigError."""
    with places.reading(place) as file:
        about, abouts, sizes = _look(file, passphrase)
        say(
            f"the backup is whole: made {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(about.made_s))} UTC by {about.version}"
        )
        try:
            claim = Claim.take(data)
        except ClaimError as error:
            raise SavingError(str(error)) from error
        try:
            _need_room(data, force=force)
            staged = _Staged(data / MARK)
            shutil.rmtree(staged.directory, ignore_errors=True)
            staged.data.mkdir(mode=0o700, parents=True)
            staged.abouts = abouts
            try:
                _stage_small(file, passphrase, staged)
                config = _config(config_file, data, staged)
                services = kept(config.services)
                _check(services, staged, config, data, force=force)
                if not ignores_room:
                    needed = sizes.data if config.services.files.bucket.url else sizes.data + sizes.objects
                    room.check([room.Need(data, needed + room.WORKING_BYTES, "what the backup holds")])
            except (SavingError, ConfigError, OSError):
                shutil.rmtree(staged.directory, ignore_errors=True)  # nothing was changed, so nothing is unfinished
                raise
            _stage(file, passphrase, staged, config, data)
            asyncio.run(_fill(services, staged, say))
            _move(data, staged, say)
        except OSError as error:
            raise SavingError(
                f"{error.filename or data}: {error.strerror}; mend it and restore again with --force"
            ) from error
        finally:
            claim.release()
    say(f"restored to {data}")


@record
class _Sizes:
    """Bytes on disk of what a backup holds: what goes to the data directory, and what goes to a bucket if there is one."""

    data: int
    objects: int


def _look(file: Any, passphrase: bytes | None) -> tuple[About, dict[str, databases.About], _Sizes]:
    """Read all of it once; changes nothing."""
    about: About | None = None
    abouts: dict[str, databases.About] = {}
    in_data = in_objects = 0
    for entry in Reader.open(file, passphrase):
        if entry.name.startswith(objects.FOLDER):
            in_objects += room.on_disk(entry.size)
        else:
            in_data += room.on_disk(entry.size)
        if entry.name == ABOUT:
            about = _about(entry)
        elif entry.name.startswith(databases.FOLDER) and entry.name.endswith(databases.ABOUT):
            name = entry.name.removeprefix(databases.FOLDER).removesuffix(databases.ABOUT)
            abouts[name] = databases.about_of(entry.whole(), name)
    if about is None:
        raise SavingError("the backup does not say what it is: it is none of ours")
    return about, abouts, _Sizes(in_data, in_objects)


def _about(entry: Entry) -> About:
    try:
        about = msgspec.json.decode(entry.whole(), type=About)
    except msgspec.DecodeError as error:
        raise SavingError(f"the backup does not say what it is: {str(error)[:_PIECE_CHARACTERS]}") from error
    if about.format != FORMAT:
        raise SavingError(
            f"the backup has format {about.format}, and this program knows {FORMAT}: restore with version {about.version}"
        )
    return about


def _need_room(data: Path, *, force: bool) -> None:
    there = sorted(one.name for one in data.iterdir() if one.name not in NOT_OURS and not one.name.startswith(ASIDE))
    if there and not force:
        raise SavingError(
            f"{data} is not empty ({', '.join(there[:5])}): restore to another --data DIR, or give --force to move what is there aside"
        )


def _stage_small(file: Any, passphrase: bytes | None, staged: _Staged) -> None:
    """The configuration alone, by which is known where the rest goes."""
    file.seek(0)
    for entry in Reader.open(file, passphrase):
        if entry.name in (CONFIG, DATA + FILE_NAME):
            _write(staged.directory / FILE_NAME, entry)


def _config(config_file: Path | None, data: Path, staged: _Staged) -> Config:
    """As said, else what lies there already, else as it was. Raises ConfigError."""
    own = data / FILE_NAME
    saved = staged.directory / FILE_NAME
    chosen = config_file or (own if own.exists() else saved if saved.exists() else None)
    return load(chosen, data)


def _check(services: tuple[Kept, ...], staged: _Staged, config: Config, data: Path, *, force: bool) -> None:
    known = {one.service.value: one for one in services}
    for name, about in staged.abouts.items():
        if name not in known:
            raise SavingError(f"the backup holds a database of {name}, a service that this program does not have")
        databases.check(known[name], about)
        if known[name].database.url and not force and not asyncio.run(databases.is_empty(known[name])):
            raise SavingError(
                f"the database of {name} is not empty: name another one in services.{name}.database.url, or give --force to "
                "delete what it holds"
            )
    if config.services.files.bucket.url and not force and not objects.Bucket(config.services.files, data).is_empty():
        raise SavingError(
            f"{config.services.files.bucket.url} is not empty: name another one, or give --force to overwrite what has the same names"
        )


def _stage(file: Any, passphrase: bytes | None, staged: _Staged, config: Config, data: Path) -> None:
    """Everything to its place beside; contents of a bucket into it."""
    bucket = objects.Bucket(config.services.files, data) if config.services.files.bucket.url else None
    file.seek(0)
    for entry in Reader.open(file, passphrase):
        name = entry.name
        if name.startswith(DATA):
            _write(staged.data / name.removeprefix(DATA), entry)
        elif name == CONFIG:
            if not (staged.data / FILE_NAME).exists():
                _write(staged.data / FILE_NAME, entry)
        elif name.startswith(databases.FOLDER) and name.endswith(databases.SQLITE):
            _write(staged.data / "services" / name.removeprefix(databases.FOLDER), entry)
        elif name.startswith(databases.FOLDER) and name.endswith(databases.COPY):
            _write(staged.tables / name.removeprefix(databases.FOLDER), entry)
        elif name.startswith(objects.FOLDER):
            if bucket is not None:
                bucket.put(entry)
            else:  # from a bucket to a directory: they have the same places there
                _write(staged.data / "services" / "files" / name.removeprefix(objects.FOLDER), entry)


async def _fill(services: tuple[Kept, ...], staged: _Staged, say: Callable[[str], None]) -> None:
    for one in services:
        about = staged.abouts.get(one.service.value)
        if about is not None and about.kind == "postgresql":
            folder = staged.tables / one.service.value
            await databases.fill(one, about, sorted(folder.glob(f"*{databases.COPY}")) if folder.exists() else [])
            say(f"database of {one.service.value}")
        if about is not None and one.service is Service.ACCOUNTS:
            await renew(one, staged.data)


def _move(data: Path, staged: _Staged, say: Callable[[str], None]) -> None:
    """What is there goes aside, what was staged gets its name; only renames, so it takes no time and no space."""
    keeps_config = (data / FILE_NAME).exists()
    old = [one for one in data.iterdir() if one.name not in {*NOT_OURS, MARK} and not one.name.startswith(ASIDE)]
    if old:
        aside = _aside(data)
        for one in old:
            one.rename(aside / one.name)
        say(f"what was there is in {aside}")
    for one in sorted(staged.data.iterdir()):
        if one.name == FILE_NAME and keeps_config:
            say(f"{data / FILE_NAME} stays as it is")
            continue
        one.rename(data / one.name)
    os.sync()  # before the mark goes, everything is on the disk
    shutil.rmtree(staged.directory)


def _aside(data: Path) -> Path:
    """A new folder for what was there; two restores may follow each other within a second."""
    name = f"{ASIDE}{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    for number in itertools.count():
        with contextlib.suppress(FileExistsError):
            path = data / (f"{name}-{number}" if number else name)
            path.mkdir(mode=0o700)
            return path
    raise AssertionError("some number is free")


def _write(path: Path, entry: Entry) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        for piece in entry.pieces():
            file.write(piece)
