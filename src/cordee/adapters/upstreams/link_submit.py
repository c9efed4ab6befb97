"""An attempt in the words of the link: what a worker is told of a call."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

from cordee.domain.call import Call, Work
from cordee.link import frames

NO_ITEMS: list[tuple[bytes, int]] = []


def submit_of(
    call: Call, work: Work, attempt: int, choices: list[int], outputs: Sequence[array[int]], remaining_s: float
) -> frames.Submit:
    """`outputs` is what each choice has said so far; of the call's choices only those in `choices` are still to be answered."""
    sampling = work.sampling
    return frames.Submit(
        call=call.id, attempt=attempt, prompt=little_endian(work.prompt), choices=choices,
        outputs=[little_endian(outputs[choice]) for choice in choices], max_tokens=work.max_tokens,
        remaining_s=remaining_s, priority=int(call.priority), tenant=call.tenant, temperature=sampling.temperature,
        top_k=sampling.top_k, top_p=sampling.top_p, min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty, presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty, logit_bias=list(sampling.logit_bias), seed=sampling.seed,
        logprobs=sampling.logprobs, min_tokens=sampling.min_tokens, ignore_eos=sampling.ignore_eos,
        keep=call.id if call.keep else "", adapter=work.adapter, cache_salt=work.cache_salt, task=work.task.value,
        grammar=None if work.grammar is None else (work.grammar.syntax.value, work.grammar.text),
        items=[(little_endian(item.tokens), item.start) for item in work.items] if work.items else NO_ITEMS,
    )  # fmt: skip


def little_endian(ids: array[int]) -> bytes:
    if sys.byteorder == "little":
        return ids.tobytes()
    swapped = array("I", ids)
    swapped.byteswap()
    return swapped.tobytes()
