"""Quantising begins only where it can end well, and what it leaves is a whole file or none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cordee.adapters.model_sources import ModelError
from cordee.compose import quantizing
from cordee.compose.kernel_child import Task, run
from cordee.compose.quantizing import Size, Source
from cordee.config.load import cache_dir
from cordee.kernels.gguf import Header, Tensor, read_header
from cordee.kernels.library import KernelsError
from cordee.kernels.quantize import KINDS, kind_named
from tests.engine.real import real_library, real_model

SMALL = Size(KINDS[0], 1000, 32.0)


def source(path: Path, kind: int = 0) -> Source:
    path.write_bytes(b"GGUF")
    header = Header(3, {"general.architecture": "llama"}, (Tensor("a.weight", (32, 2), kind, 0, 256),), 32, 0)
    return Source(path, header, int(kind not in (0, 1, 30)), path)


def refused(one: Source, target: Path, size: Size = SMALL, *, force: bool = False, requantize: bool = False) -> str:
    with pytest.raises(ModelError) as caught:
        quantizing.require_target(one, target, size, force=force, requantize=requantize)
    return str(caught.value)


def test_what_must_not_be_begun_is_refused_with_the_cure(tmp_path: Path) -> None:
    whole, poor = source(tmp_path / "f32.gguf"), source(tmp_path / "q8.gguf", kind=8)
    there = tmp_path / "there.gguf"
    there.touch()
    assert "--allow-requantize" in refused(poor, tmp_path / "new.gguf")
    assert "--force" in refused(whole, there)
    assert "the source itself" in refused(whole, whole.path, force=True)
    assert "is a directory" in refused(whole, tmp_path)
    assert "is no directory" in refused(whole, tmp_path / "none" / "new.gguf")
    assert "are free" in refused(whole, tmp_path / "new.gguf", Size(KINDS[0], 1 << 60, 32.0))
    quantizing.require_target(whole, there, SMALL, force=True, requantize=False)
    quantizing.require_target(poor, tmp_path / "new.gguf", SMALL, force=False, requantize=True)


def test_types_are_known_by_name_in_any_case() -> None:
    assert kind_named("q4_k_m") == next(kind for kind in KINDS if kind.ftype == 15)
    assert kind_named("Q9") is None


@pytest.mark.parametrize("name", ["oracle", "nobody-knows-it", "/nowhere/there.gguf"])
def test_a_source_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        quantizing.open_source(name, "", tmp_path)


def test_a_truncated_source_says_where_it_ends(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(b"GGUF\x03\x00\x00\x00")
    with pytest.raises(ModelError, match="truncated"):
        quantizing.open_source(str(cut), "", tmp_path)


@pytest.mark.model
@pytest.mark.timeout(300)
def test_a_real_file_becomes_what_was_foretold_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    library = real_library()
    model = real_model()
    one = quantizing.open_source(str(model), str(library.directory), cache_dir(os.environ))
    size = next(found for found in quantizing.sizes(one) if found.kind.name == "Q4_0")
    told: list[tuple[int, int]] = []
    quantizing.quantise(one, tmp_path / "q4.gguf", size.kind, lambda done, of: told.append((done, of)))
    made = read_header(tmp_path / "q4.gguf")
    assert abs(sum(tensor.size for tensor in made.tensors) - size.bytes) < 1e4
    assert told[-1] == (len(one.header.tensors), len(one.header.tensors))
    assert os.listdir(tmp_path) == ["q4.gguf"]


@pytest.mark.model
def test_a_file_that_the_kernels_cannot_read_is_an_error_of_the_child(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(64))
    task = Task("quantize", str(real_library().directory), str(bad), str(tmp_path / "new.gguf"), 7)
    with pytest.raises(KernelsError):
        run(task, lambda done, of: None)
