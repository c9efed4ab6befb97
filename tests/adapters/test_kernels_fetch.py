"""Only the pinned archive is opened, only the pinned files come out of it, and nothing else is touched."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import platform
import tarfile
from pathlib import Path

import pytest

from cordee.adapters import kernels_fetch
from cordee.adapters.kernels_fetch import KernelsError, extract, locate, pull, verify
from cordee.config.load import cache_dir

FILES = {name: name.encode() * 3 for name in ("libggml-base.so", "libllama.v0.5.0.so")}


@pytest.fixture(autouse=True)
def pins(request, monkeypatch) -> None:
    if "model" not in request.keywords:
        sizes = {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in FILES.items()}
        monkeypatch.setattr(kernels_fetch, "FILES", sizes)


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, target
    return info, content


def archive(path: Path, *extra: tuple[tarfile.TarInfo, bytes], files: dict[str, bytes] = FILES) -> Path:
    target = path / "package.tgz"
    with tarfile.open(target, "w:gz") as tar:
        for info, content in [
            *extra,
            *(member(kernels_fetch.MEMBERS + name, content) for name, content in files.items()),
        ]:
            tar.addfile(info, io.BytesIO(content))
    return target


def test_the_wanted_files_come_out_and_nothing_else_does(tmp_path):
    hostile = [
        member("../outside.so", b"x"),
        member("/tmp/cordee-absolute.so", b"x"),
        member("package/bins/linux-x64/../../outside.so", b"x"),
        member("package/bins/linux-x64/other.so", b"x"),
        member("package/bins/linux-x64/libggml-base.so", kind=tarfile.SYMTYPE, target="/etc/passwd"),
        member("package/bins/linux-x64/device", kind=tarfile.CHRTYPE),
        member("libggml-base.so", b"y"),
    ]
    target = extract(archive(tmp_path, *hostile), tmp_path / "library")
    assert {path.name: path.read_bytes() for path in target.iterdir()} == FILES
    assert {path.name for path in tmp_path.iterdir()} == {"package.tgz", "library"}
    verify(target)


def test_a_file_of_another_size_or_missing_is_refused(tmp_path):
    with pytest.raises(KernelsError, match=r"libggml-base\.so has 3 bytes in the archive, must have 45"):
        extract(archive(tmp_path, files={"libggml-base.so": b"abc"}), tmp_path / "one")
    with pytest.raises(KernelsError, match=r"libggml-base\.so missing in it"):
        extract(archive(tmp_path, files={"libllama.v0.5.0.so": FILES["libllama.v0.5.0.so"]}), tmp_path / "two")


def test_a_cut_archive_is_refused(tmp_path):
    whole = archive(tmp_path)
    whole.write_bytes(whole.read_bytes()[:100])
    with pytest.raises(KernelsError, match="not a readable archive"):
        extract(whole, tmp_path / "library")


def fake_npm(tmp_path: Path, monkeypatch, script: str) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir(exist_ok=True)
    (binaries / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (binaries / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}:/usr/bin:/bin")


def test_a_pulled_library_is_found_once_it_is_whole(tmp_path, monkeypatch):
    cache, packed = tmp_path / "cache", archive(tmp_path)
    monkeypatch.setattr(kernels_fetch, "INTEGRITY", sha512(packed))
    fake_npm(tmp_path, monkeypatch, f"cp {packed} .")
    assert locate(cache) is None
    place = pull(cache)
    assert locate(cache) == place
    fake_npm(tmp_path, monkeypatch, "exit 1")
    assert pull(cache) == place
    (place / "libggml-base.so").write_bytes(b"z" * len(FILES["libggml-base.so"]))
    with pytest.raises(KernelsError, match="npm could not fetch"):
        pull(cache)
    fake_npm(tmp_path, monkeypatch, f"cp {packed} .")
    verify(pull(cache))
    assert {path.name for path in (cache / "kernels").iterdir()} == {".lock", place.name}


def test_another_archive_is_never_opened(tmp_path, monkeypatch):
    fake_npm(tmp_path, monkeypatch, f"cp {archive(tmp_path)} .")
    with pytest.raises(KernelsError, match="it was not opened"):
        pull(tmp_path / "cache")
    assert locate(tmp_path / "cache") is None


def test_a_machine_without_npm_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KernelsError, match=r"apt-get install npm.*engine\.library"):
        pull(tmp_path / "cache")


def test_a_machine_that_no_prebuilt_fits_is_told_the_other_way(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(KernelsError, match=r"only for Linux on x86_64; set engine\.library"):
        pull(tmp_path / "cache")
    monkeypatch.undo()
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with pytest.raises(KernelsError, match=r"needs glibc 2\.34 or later"):
        pull(tmp_path / "cache")


@pytest.mark.model
def test_the_fetched_library_is_what_is_pinned():
    place = locate(cache_dir())
    assert place is not None
    verify(place)
    assert os.path.samefile(place, kernels_fetch.home(cache_dir()))


def sha512(path: Path) -> str:
    return base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
