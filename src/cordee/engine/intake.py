"""Is this attempt one that we can compute? The only place where what a gateway sent becomes a job."""

from __future__ import annotations

import math
from array import array

import numpy as np

from cordee.domain.call import Grammar, Item, Sampling, Syntax, Task
from cordee.domain.replica import ModelCard
from cordee.engine.job import Job, JobName, Tokens
from cordee.link.frames import Submit

CHOICES_MAX = 1 << 16  # a choice is 16 bits in a row
TOKEN_BYTES = 4


class BadWork(Exception):
    """The work itself is at fault: no worker of this model can do it."""


def read_job(name: JobName, submit: Submit, card: ModelCard, now_s: float) -> Job:
    """The job that `submit` asks for. Raises BadWork, whose message says what is wrong with it."""
    task = _task(submit)
    if task.value not in card.tasks:
        raise BadWork(f"{card.name} can {' and '.join(card.tasks)}, not {task.value}")
    if submit.adapter and submit.adapter not in card.adapters:
        raise BadWork(f"{card.name} has no adapter {submit.adapter[:64]!r} here")
    items = tuple(_item(number, item, card) for number, item in enumerate(submit.items))
    if (task is Task.GENERATE) == bool(items):
        raise BadWork(f"{len(items)} items for the task {task.value!r}")
    if items and max(submit.choices, default=0) >= len(items):
        raise BadWork(f"item {max(submit.choices)} of {len(items)}")
    prompt = _tokens("the prompt", submit.prompt, card)
    if not len(prompt) and not items:
        raise BadWork("the prompt has no token")
    if len(prompt) >= card.context:
        raise BadWork(f"the prompt has {len(prompt)} tokens, the context of {card.name} is {card.context}")
    if not submit.choices or len(submit.choices) != len(submit.outputs):
        raise BadWork(f"{len(submit.choices)} choices with outputs of {len(submit.outputs)}")
    if len(set(submit.choices)) != len(submit.choices) or not all(0 <= c < CHOICES_MAX for c in submit.choices):
        raise BadWork(f"choices must be different numbers from 0 to {CHOICES_MAX - 1}")
    if submit.max_tokens < 0:
        raise BadWork(f"max_tokens is {submit.max_tokens}")
    outputs = tuple(_tokens(f"output {c}", out, card) for c, out in zip(submit.choices, submit.outputs, strict=True))
    return Job(
        name=name,
        prompt=prompt,
        choices=tuple(submit.choices),
        outputs=outputs,
        max_tokens=submit.max_tokens,
        deadline_s=now_s + submit.remaining_s,
        priority=submit.priority,
        sampling=_sampling(submit, card),
        tenant=submit.tenant,
        adapter=submit.adapter,
        grammar=_grammar(submit),
        cache_salt=submit.cache_salt,
        task=task,
        items=items,
    )


def _task(submit: Submit) -> Task:
    try:
        return Task(submit.task)
    except ValueError:
        raise BadWork(f"there is no task {submit.task[:64]!r}") from None


def _item(number: int, item: tuple[bytes, int], card: ModelCard) -> Item:
    ids = _tokens(f"item {number}", item[0], card)
    if not 0 < len(ids) <= card.context:
        raise BadWork(f"item {number} has {len(ids)} tokens; {card.name} takes from 1 to {card.context}")
    if not 0 <= item[1] <= len(ids):
        raise BadWork(f"item {number} of {len(ids)} tokens is to be scored from token {item[1]} on")
    return Item(array("I", ids.tolist()), item[1])


def _grammar(submit: Submit) -> Grammar | None:
    if submit.grammar is None:
        return None
    try:
        return Grammar(Syntax(submit.grammar[0]), submit.grammar[1])
    except ValueError:
        raise BadWork(f"there is no syntax {submit.grammar[0][:64]!r} of grammars") from None


def _tokens(what: str, data: bytes, card: ModelCard) -> Tokens:
    if len(data) % TOKEN_BYTES:
        raise BadWork(f"{what} is {len(data)} bytes long, which is not a number of tokens")
    ids = np.frombuffer(data, "<u4")
    if len(ids) and int(ids.max()) >= card.vocabulary:
        raise BadWork(f"{what} has token {int(ids.max())}, the vocabulary of {card.name} is 0 … {card.vocabulary - 1}")
    return ids.astype(np.int32)


def _sampling(submit: Submit, card: ModelCard) -> Sampling:
    numbers = {
        "temperature": submit.temperature,
        "top_p": submit.top_p,
        "min_p": submit.min_p,
        "repetition_penalty": submit.repetition_penalty,
        "presence_penalty": submit.presence_penalty,
        "frequency_penalty": submit.frequency_penalty,
        "remaining_s": submit.remaining_s,
    }
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise BadWork(f"{name} is {value}")
    if submit.temperature < 0 or submit.repetition_penalty <= 0:
        raise BadWork("temperature must not be negative and repetition_penalty must be positive")
    for token, bias in submit.logit_bias:
        if not 0 <= token < card.vocabulary or not math.isfinite(bias):
            raise BadWork(f"logit_bias of token {token} is {bias}; tokens are 0 … {card.vocabulary - 1}")
    if submit.logprobs is not None and not 0 <= submit.logprobs <= card.vocabulary:
        raise BadWork(f"logprobs is {submit.logprobs}; allowed is 0 … {card.vocabulary}")
    return Sampling(
        temperature=submit.temperature,
        top_k=submit.top_k,
        top_p=submit.top_p,
        min_p=submit.min_p,
        repetition_penalty=submit.repetition_penalty,
        presence_penalty=submit.presence_penalty,
        frequency_penalty=submit.frequency_penalty,
        logit_bias=tuple((token, bias) for token, bias in submit.logit_bias),
        seed=submit.seed,
        logprobs=submit.logprobs,
        min_tokens=submit.min_tokens,
        ignore_eos=submit.ignore_eos,
    )
