"""What a guest is asked by whoever looks after it: whether it is up, whether it has its model, its figures, and a token.

A guest is well when it has answered a question, not when it says so: /health of a server whose engine is dead may go on saying 200.
"""

from __future__ import annotations

import asyncio

import msgspec

from cordee.adapters.guests.figures import NAMES, Figures, FiguresError, read
from cordee.adapters.upstreams import collect, discover
from cordee.adapters.upstreams.dialect import COMPLETIONS
from cordee.adapters.upstreams.endpoint import Endpoint

OK = 200
SAID_MAX = 300  # characters of a refusal that are told
_answer = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class NotWellError(Exception):
    """It does not do what it should; the message says what it did instead."""


class Asker:
    """Questions to one guest of `kind` that serves `model`. Each waits `answer_s` at most. All raise NotWellError."""

    def __init__(self, endpoint: Endpoint, kind: str, model: str, answer_s: float) -> None:
        self.endpoint = endpoint
        self._names = NAMES[kind]
        self._model = model
        self._answer_s = answer_s

    async def is_up(self) -> None:
        """Its web server answers, which it does when the model is loaded, and has the model under our name."""
        try:
            async with asyncio.timeout(self._answer_s):
                status, _ = await collect.get(self.endpoint, "/health")
                if status != OK:
                    raise NotWellError(f"GET /health was answered with status {status}")
                ids = await discover.models(self.endpoint)
        except (OSError, TimeoutError) as error:
            raise NotWellError(str(error) or f"no answer within {self._answer_s:g} s") from error
        if self._model not in ids:
            raise NotWellError(f"it serves {', '.join(ids) or 'no model'}, not {self._model}")

    async def figures(self) -> Figures:
        """How much it has to do."""
        try:
            async with asyncio.timeout(self._answer_s):
                status, page = await collect.get(self.endpoint, "/metrics")
        except (OSError, TimeoutError) as error:
            raise NotWellError(f"its metrics cannot be had: {error or 'no answer in time'}") from error
        if status != OK:
            raise NotWellError(f"GET /metrics was answered with status {status}")
        try:
            return read(page, self._names)
        except FiguresError as error:
            raise NotWellError(str(error)) from error

    async def canary(self, answer_s: float = 0.0) -> None:
        """It computes one token. `answer_s`: its own patience; the first answer of a life may take long."""
        patience_s = answer_s or self._answer_s
        question = {"model": self._model, "prompt": "1 2 3", "max_tokens": 1, "temperature": 0}
        try:
            async with asyncio.timeout(patience_s):
                status, body = await collect.post(self.endpoint, COMPLETIONS, msgspec.json.encode(question), patience_s)
        except (OSError, TimeoutError) as error:
            raise NotWellError(f"no token came within {patience_s:g} s: {error or 'it is silent'}") from error
        if status != OK:
            raise NotWellError(
                f"a token was refused with status {status}: {body.decode('utf-8', 'replace')[:SAID_MAX]}"
            )
        try:
            if "choices" not in _answer(body):
                raise NotWellError("its answer has no choices")
        except msgspec.MsgspecError as error:
            raise NotWellError("its answer is no JSON object") from error
