from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cordee.kernels.context import Context, ContextSettings
from cordee.kernels.layout import ContextParams, ContextParams06, has_known_defaults
from cordee.kernels.library import KernelsError, first, has_library, load
from cordee.kernels.llama import Model
from tests.engine.real import real_library, real_model


def defaults(**changed: Any) -> SimpleNamespace:
    known = {
        "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "type_k": 1, "type_v": 1, "offload_kqv": True, "no_perf": True,
        "embeddings": False, "samplers": None, "n_samplers": 0, "ctx_other": None,
    }  # fmt: skip
    return SimpleNamespace(**{**known, **changed})


def test_the_documented_defaults_are_known():
    assert has_known_defaults(defaults())


@pytest.mark.parametrize(
    "moved", [{"n_ubatch": 2048}, {"type_v": 0}, {"no_perf": False}, {"n_samplers": 1 << 56}, {"ctx_other": 1}]
)
def test_a_moved_field_is_noticed(moved: dict[str, Any]):
    assert not has_known_defaults(defaults(**moved))


def test_the_newer_structure_has_one_pointer_more_before_the_switches():
    assert ContextParams06.embeddings.offset == ContextParams.embeddings.offset + 8
    assert ContextParams06.type_v.offset == ContextParams.type_v.offset


def test_a_directory_without_the_library_is_refused(tmp_path: Path):
    assert not has_library(tmp_path)
    with pytest.raises(KernelsError, match=r"no libllama in"):
        load(tmp_path)


def test_a_file_that_is_no_library_is_refused_with_what_is_known_to_work(tmp_path: Path):
    for name in ("libllama.so", "libggml.so"):
        (tmp_path / name).write_bytes(b"not a library")
    with pytest.raises(KernelsError, match=r"cannot be used: .*Known to work"):
        load(tmp_path)


def test_the_plain_name_goes_before_the_versioned(tmp_path: Path):
    for name in ("libllama.v0.5.0.so", "libllama.so.0"):
        (tmp_path / name).touch()
    assert first(tmp_path, "libllama.so", "libllama.v*.so", "libllama.so.*") == tmp_path / "libllama.v0.5.0.so"


@pytest.mark.model
def test_a_loaded_library_says_what_it_is():
    library = real_library()
    assert len(library.build) == 64
    assert "ggml-cpu" in library.variant


@pytest.mark.model
def test_a_context_counts_copies_and_cuts():
    model = Model(real_library(), real_model())
    context = Context(model, ContextSettings(2, 64, 64, 32, 1, exact=True))
    ids = model.tokenize(b"one two three four", special=False)
    count = len(ids)
    context.tokens[:count] = ids
    context.positions[:count] = range(count)
    context.slots[:count] = 0
    context.wanted[:count] = 0
    context.wanted[count - 1] = 1
    assert context.decode(count) == 0
    row = context.logits(1)[0].copy()
    context.copy(0, 1)
    assert context.cut(1, count - 1)
    context.tokens[0], context.positions[0], context.slots[0], context.wanted[0] = ids[-1], count - 1, 1, 1
    assert context.decode(1) == 0
    assert (context.logits(1)[0] == row).all()
    context.positions[0] = count + 20
    assert context.decode(1) != 0
    assert library_says(model)
    context.close()
    context.close()
    model.close()
    model.close()


def library_says(model: Model) -> str:
    return model.library.complaints()
