"""Weights are written anew only where that makes them faster and takes nothing from any of them."""

from __future__ import annotations

import pytest

from cordee.kernels.encoding import bytes_anew, reason_to_stay
from cordee.kernels.gguf import Header, Tensor

F32, F16, Q4_0, Q4_1, Q8_0 = 0, 1, 2, 3, 8
NORM = Tensor("blk.0.attn_norm.weight", (64,), F32, 0, 256)


def header(*tensors: tuple[str, int, int]) -> Header:
    return Header(3, {}, (NORM, *(Tensor(name, (64, 64), kind, 0, size) for name, kind, size in tensors)), 32, 1000)


def test_the_slow_type_is_written_anew_and_finer_blocks_beside_it_are_no_hindrance() -> None:
    assert not reason_to_stay(header(("a.weight", Q4_1, 2560), ("token_embd.weight", Q8_0, 2000)))


@pytest.mark.parametrize("kind", [F32, F16, Q4_0, Q8_0, 12, 99])
def test_what_has_fast_kernels_or_was_not_measured_stays(kind: int) -> None:
    assert "not known to be slow" in reason_to_stay(header(("a.weight", kind, 2304)))


def test_a_slow_matrix_among_many_fast_ones_changes_nothing() -> None:
    mixed = header(("a.weight", Q4_0, 2304), ("b.weight", Q4_0, 2304), ("c.weight", Q4_1, 2560))
    assert "Q4_0" in reason_to_stay(mixed)


def test_a_matrix_that_would_lose_precision_keeps_the_file_as_it_is() -> None:
    why = reason_to_stay(header(("a.weight", Q4_1, 25600), ("output.weight", F16, 8192)))
    assert "output.weight is F16" in why


def test_matrices_that_are_never_written_anew_do_not_count() -> None:
    assert not reason_to_stay(header(("a.weight", Q4_1, 2560), ("blk.0.ffn_gate_inp.weight", F32, 16384)))


def test_a_file_without_matrices_stays() -> None:
    assert reason_to_stay(Header(3, {}, (NORM,), 32, 0)) == "it has no matrices"


def test_the_size_is_that_of_the_blocks_and_of_all_that_stays() -> None:
    size = bytes_anew(header(("a.weight", Q4_1, 2560)))
    assert size == 1000 + 256 + 64 * 64 // 32 * 34 + 2 * 32
