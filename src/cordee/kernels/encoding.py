"""Whether a model's weights are worth writing anew as Q8_0, and what that would come to: decided by the file's header alone.

llama.cpp multiplies by most types in blocks: a row of weights is read once for many rows of activations. It has no such kernel for the
type below on processors without AMX, and reads all weights again for each row. docs/engine.md ("Speed") has the figures.
"""

from __future__ import annotations

from collections import Counter
from math import prod

from cordee.kernels.gguf import Header, Tensor
from cordee.kernels.quantize import PLAIN

Q8_0 = 8  # ggml's number of the type
Q8_0_ELEMENTS, Q8_0_BYTES = 32, 34  # of one block: a 16-bit scale, and a byte for each weight
SLOW = frozenset({3})  # ggml's Q4_1; others were not measured
NEVER_WRITTEN_ANEW = ("_norm.", "ffn_gate_inp.")  # in the names of matrices that llama.cpp leaves as they are
TYPE_NAMES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K",
    14: "Q6_K", 20: "IQ4_NL", 23: "IQ4_XS", 30: "BF16",
}  # fmt: skip


def reason_to_stay(header: Header) -> str:
    """Why the file is best used as it is; "": its weights are faster as Q8_0, and none of them would lose precision."""
    matrices = [tensor for tensor in header.tensors if _is_matrix(tensor)]
    sizes: Counter[int] = Counter()
    for tensor in matrices:
        sizes[tensor.type] += tensor.size
    if not sizes:
        return "it has no matrices"
    most = sizes.most_common(1)[0][0]
    if most not in SLOW:
        return f"most of its weights are {TYPE_NAMES.get(most, f'of type {most}')}, which is not known to be slow"
    cut = next((tensor for tensor in matrices if tensor.type in PLAIN), None)
    if cut is not None:
        return f"its {cut.name} is {TYPE_NAMES[cut.type]} and would lose precision"
    return ""


def bytes_anew(header: Header) -> int:
    """The size of the file as Q8_0, from above: what is there already, and the matrices in blocks."""
    weights = (prod(one.shape) // Q8_0_ELEMENTS * Q8_0_BYTES if _is_matrix(one) else one.size for one in header.tensors)
    return header.data_offset + sum(weights) + header.alignment * len(header.tensors)


def _is_matrix(tensor: Tensor) -> bool:
    """One that llama.cpp would write anew."""
    return len(tensor.shape) > 1 and not any(part in tensor.name for part in NEVER_WRITTEN_ANEW)
