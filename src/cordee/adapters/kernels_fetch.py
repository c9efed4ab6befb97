"""llama.cpp's prebuilt library: one version, pinned twice, fetched through npm and kept in the cache.

The archive must have the SHA-512 that the registry states for this version, and each file that is loaded later its own
SHA-256, so neither a changed archive nor a changed extraction ends up in a process. Node.js is not needed to run it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from cordee.adapters.durable import directory, locked

PACKAGE = "@node-llama-cpp/linux-x64"
VERSION = "3.22.1"
INTEGRITY = (
    "5uCCDNqWCNfaAm8aR/Uzxbo4HBpKgNF91kCHPepKhgMgV2OAmatoefbOlMihsqCiH2Od35E/eUHQCFbfRBJuOg=="  # SHA-512, base64
)
MEMBERS = "package/bins/linux-x64/"
GLIBC_LEAST = (2, 34)
NPM_TIMEOUT_S = 300.0
ARCHIVE_BYTES_MAX = 64 * 1024 * 1024
SAID_CHARACTERS_MAX = 400  # of npm's own words, in the message about its failure

# The file, its size in bytes, its SHA-256. ggml chooses among the cpu variants when it is loaded.
FILES = {
    "libggml-base.so": (919_560, "6c342c8aeb20cb31a18099d6f79de4de6703814d1cfd5c4d754a8643087e486e"),
    "libggml-cpu-alderlake.so": (1_224_328, "6527efda35405a0d91574aced4a7766db9bb0494ab6458c83fe9eba755eb76f7"),
    "libggml-cpu-cannonlake.so": (1_369_312, "44285a67a31a81a036a70c565d391b31145d835044c03c76cfaa2f90a9d57d42"),
    "libggml-cpu-cascadelake.so": (1_369_312, "97cace813fbf7b7a07c4793f6a75b8b2d3de256430620f0be4a15bd4372468ea"),
    "libggml-cpu-cooperlake.so": (1_365_288, "5eda284fd8986d550e21623b269dd31d02c07fc70121d3099609d5dde6b6847e"),
    "libggml-cpu-haswell.so": (1_228_424, "ddaa96012769f0e86e8670cca374243751880bea2c2d0a4413b3a1b7a29dca74"),
    "libggml-cpu-icelake.so": (1_369_312, "9b9c24aaa775fd38a6e1ff082549e50d4138d29f2e2883630b28ab70704ed896"),
    "libggml-cpu-ivybridge.so": (1_190_120, "91b27ab81df92b8429c8e3441a8861014d3aec1424f90885a628fd0d4567532f"),
    "libggml-cpu-piledriver.so": (1_186_024, "2cb5b2101f5bbefa2416ec7f8b6c6acb177d04f0157989c5d92e4c07750fd3f8"),
    "libggml-cpu-sandybridge.so": (1_180_808, "bce17565033835dfb59fae2ed712d4c35e56463c2d49ea61ca08e6e2908bdfd6"),
    "libggml-cpu-sapphirerapids.so": (1_669_760, "e3d4840632b2242655e1721c6b93ec0370406dded9074accfe90bcfb67bd30b8"),
    "libggml-cpu-skylakex.so": (1_369_312, "df30b40a957175cd8e462e8838632dc51e3be7570b27b9526cb7a044263aeab3"),
    "libggml-cpu-sse42.so": (981_608, "ec65053445506965db5dd9382d7ede084ba639edc55f77aaf73581c778969e02"),
    "libggml-cpu-x64.so": (977_688, "1174c3c3e0b8722313df561d7ef5ece516a070732cec9b8ddda3667c0b959728"),
    "libggml-cpu-zen4.so": (1_365_288, "d84208de33fdadb8921a1a1a34342f5eceb1e58b83648be68050f7557312bd3e"),
    "libggml.v0.5.0.so": (55_184, "41cd5e6ad78b9f0af31a6f80d637d3168e75ff84db14c495de4d3d9c95607444"),
    "libllama.v0.5.0.so": (4_620_496, "2ecd1d85f68456573a664106a9039366b88231579fd65d9669c9a6ab41374fd4"),
}
_MODE = 0o755  # libraries are no secret
OTHERWISE = "set engine.library to the directory of a libllama of your own (llama-cpp-python brings one)"


class KernelsError(Exception):
    """The library cannot be had; the message says why and what to do."""


def home(cache: Path) -> Path:
    """Where this version of the library is kept, there or not."""
    return cache / "kernels" / f"llama-linux-x64-{VERSION}"


def locate(cache: Path) -> Path | None:
    """The directory of the fetched library; None where it is absent or incomplete. Looks at sizes only: it is quick."""
    place = home(cache)
    try:
        whole = all((place / name).stat().st_size == size for name, (size, _) in FILES.items())
    except OSError:
        return None
    return place if whole else None


def verify(place: Path) -> None:
    """Compare every file with its pinned SHA-256. Raises KernelsError naming the first that differs."""
    for name, (_, expected) in FILES.items():
        try:
            with (place / name).open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise KernelsError(
                f"{place / name}: cannot be read: {error.strerror}; run `cordee models pull`."
            ) from error
        if found != expected:
            raise KernelsError(f"{place / name}: SHA-256 is {found}, must be {expected}; run `cordee models pull`.")


def pull(cache: Path) -> Path:
    """Make sure that the library is in the cache, whole and right, and return its directory. Raises KernelsError."""
    _check_machine()
    place = home(cache)
    if _is_right(cache):
        return place  # also where the cache is somebody else's and may only be read
    try:
        with locked(directory(place.parent, _MODE) / ".lock"):
            if _is_right(cache):
                return place  # fetched by another process while this one waited for the lock
            print(f"fetching {PACKAGE} {VERSION} …", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=place.parent) as scratch:
                unpacked = _unpack(_npm_pack(Path(scratch)), Path(scratch))
                verify(unpacked)
                shutil.rmtree(place, ignore_errors=True)
                unpacked.rename(place)
    except OSError as error:
        raise KernelsError(
            f"{place}: cannot be written: {error.strerror}; free space or fix the owner of {cache}."
        ) from error
    return place


def _is_right(cache: Path) -> bool:
    place = locate(cache)
    if place is None:
        return False
    try:
        verify(place)
    except KernelsError:
        return False
    return True


def _check_machine() -> None:
    machine, (libc, version) = platform.machine(), platform.libc_ver()
    if sys.platform != "linux" or machine not in ("x86_64", "AMD64"):
        raise KernelsError(
            f"there is no prebuilt library for {sys.platform} on {machine}, only for Linux on x86_64; {OTHERWISE}."
        )
    if libc != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < GLIBC_LEAST:
        least = ".".join(map(str, GLIBC_LEAST))
        raise KernelsError(
            f"the prebuilt library needs glibc {least} or later, here is {libc or 'another C library'} {version}; {OTHERWISE}."
        )


def _npm_pack(scratch: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise KernelsError(
            f"npm is not installed, and the library of llama.cpp comes through it: `apt-get install npm`; or {OTHERWISE}."
        )
    # A cache of its own: npm started by root and by a user must not leave files of the one to the other.
    command = [npm, "pack", "--silent", "--ignore-scripts", "--cache", str(scratch / "npm"), f"{PACKAGE}@{VERSION}"]
    try:
        done = subprocess.run(
            command,
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=NPM_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise KernelsError(
            f"npm had no answer from its registry within {NPM_TIMEOUT_S:g} s; check the network; or {OTHERWISE}."
        ) from error
    archives = list(scratch.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        said = " ".join(done.stderr.split())[-SAID_CHARACTERS_MAX:] or f"exit status {done.returncode}"
        raise KernelsError(
            f"npm could not fetch {PACKAGE} {VERSION}: {said}. Check the network and npm's registry; or {OTHERWISE}."
        )
    return archives[0]


def _unpack(archive: Path, scratch: Path) -> Path:
    """The files that are used, out of an archive that is the pinned one, in a directory of their own."""
    with archive.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size > ARCHIVE_BYTES_MAX:
            raise KernelsError(
                f"the archive of {PACKAGE} {VERSION} is longer than {ARCHIVE_BYTES_MAX} bytes; it was not opened."
            )
        found = base64.b64encode(hashlib.file_digest(stream, "sha512").digest()).decode()
    if found != INTEGRITY:
        raise KernelsError(
            f"the archive of {PACKAGE} {VERSION} has the SHA-512 {found}, must be {INTEGRITY}; "
            "it was not opened. Somebody changed it on the way: check npm's registry setting."
        )
    return extract(archive, scratch / "library")


def extract(archive: Path, target: Path) -> Path:
    """Write the wanted members of the archive into `target`: plain files of known name and size, nothing else."""
    target.mkdir()
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = member.name.removeprefix(MEMBERS)
                # Only exact names are written, and by us: no path, link or device of the archive can matter.
                if member.name == MEMBERS + name and name in FILES and member.isreg():
                    _write_member(tar, member, target / name)
    except (tarfile.TarError, EOFError) as error:
        raise KernelsError(f"{archive.name}: not a readable archive: {error}; fetch it again.") from error
    missing = [name for name in FILES if not (target / name).exists()]
    if missing:
        raise KernelsError(
            f"{archive.name}: {', '.join(missing)} missing in it; it is not the package that was pinned."
        )
    return target


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    expected = FILES[path.name][0]
    if member.size != expected:
        raise KernelsError(f"{path.name} has {member.size} bytes in the archive, must have {expected}.")
    content = tar.extractfile(member)
    assert content is not None  # it is a regular file
    with path.open("xb") as stream:
        shutil.copyfileobj(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
