from __future__ import annotations

from typing import Any

import pytest

from cordee.engine.intake import BadWork, read_job
from tests.engine.doubles import CARD, submit


def test_a_submit_becomes_a_job_with_a_deadline_on_our_clock():
    job = read_job((1, 2), submit(outputs=((), (9,)), choices=[0, 3], seed=5, logit_bias=[(1, 2.0)]), CARD, 50.0)
    assert job.name == (1, 2)
    assert job.prompt.tolist() == [1, 2, 3]
    assert [o.tolist() for o in job.outputs] == [[], [9]]
    assert (job.choices, job.deadline_s, job.sampling.seed, job.sampling.logit_bias) == ((0, 3), 110.0, 5, ((1, 2.0),))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"prompt": ()}, "no token"),
        ({"prompt": [1] * CARD.context}, "64 tokens, the context of m is 64"),
        ({"prompt": (32,)}, "token 32, the vocabulary of m is 0 … 31"),
        ({"outputs": ((40,),)}, "output 0 has token 40"),
        ({"choices": []}, "0 choices with outputs of 1"),
        ({"choices": [1, 1], "outputs": ((), ())}, "choices must be different"),
        ({"choices": [65536]}, "from 0 to 65535"),
        ({"max_tokens": -1}, "max_tokens is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"remaining_s": float("inf")}, "remaining_s is inf"),
        ({"temperature": -1.0}, "must not be negative"),
        ({"repetition_penalty": 0.0}, "must be positive"),
        ({"logit_bias": [(32, 1.0)]}, "logit_bias of token 32"),
        ({"logprobs": 33}, "logprobs is 33"),
        ({"task": "rank"}, "m can generate.*, not rank"),
        ({"task": "dance"}, "there is no task 'dance'"),
    ],
)
def test_work_that_cannot_be_done_is_refused_with_its_reason(wrong: dict[str, Any], says: str):
    with pytest.raises(BadWork, match=says):
        read_job((1, 2), submit(**wrong), CARD, 0.0)


def test_bytes_that_are_no_tokens_are_refused():
    from_wire = submit()
    broken = type(from_wire)(
        call="c", attempt=1, prompt=b"123", choices=[0], outputs=[b""], max_tokens=1, remaining_s=1.0
    )
    with pytest.raises(BadWork, match="3 bytes long"):
        read_job((1, 2), broken, CARD, 0.0)
