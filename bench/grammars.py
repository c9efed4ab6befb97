"""What does it cost to hold an answer to a grammar: to compile one, and per token beside the step of the model?

Schemas of the kinds that clients send, with SmolLM2 at temperature 1, one sequence on one thread: the time to compile each, the time of a
draw with the grammar (its mask, the draw, and telling it the token) and without, and what a step of the model takes. Every complete
answer is read as JSON. Times are of the processor, so that what else the machine does is not counted.

python -m bench.grammars
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import numpy as np

from bench.machine import percentile, write
from cordee.adapters.libraries import library_directory
from cordee.adapters.models import DEFAULT, resolve
from cordee.config.load import cache_dir
from cordee.domain.call import Grammar, Sampling, Syntax
from cordee.engine.constrain import Constraint
from cordee.engine.sample import Sampler, Voice
from cordee.kernels.context import Context, ContextSettings
from cordee.kernels.grammar import matcher, tokenizer
from cordee.kernels.library import load
from cordee.kernels.llama import Model
from cordee.wire.grammar import schema_grammar

TOKENS, CONTEXT = 120, 256
TEXT: dict[str, Any] = {"type": "string", "maxLength": 40}


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def schemas() -> dict[str, Any]:
    node = an_object(name=TEXT, children={"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2})
    line = an_object(sku={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}, count={"type": "integer", "minimum": 1})
    tools = [
        an_object(name={"const": f"tool_{i}"}, arguments=an_object(**{f"a{j}": TEXT for j in range(3)}))
        for i in range(20)
    ]
    return {
        "person": an_object(name=TEXT, age={"type": "integer", "minimum": 0, "maximum": 150}, email={"type": "string", "format": "email"}),
        "classification": an_object(label={"enum": ["positive", "neutral", "negative"]}, confidence={"type": "number"}),
        "invoice": an_object(
            id={"type": "string", "format": "uuid"}, date={"type": "string", "format": "date"},
            lines={"type": "array", "items": line, "minItems": 1, "maxItems": 5}, note={"anyOf": [TEXT, {"type": "null"}]},
        ),
        "tree (recursive)": {"$ref": "#/$defs/node", "$defs": {"node": node}},
        "one of 20 tool calls": {"anyOf": tools},
        "enum of 500": an_object(value={"enum": [f"value number {i}" for i in range(500)]}),
        "100 properties": an_object(**{f"property_{i}": {"type": ["string", "integer", "null"]} for i in range(100)}),
    }  # fmt: skip


def grammars() -> dict[str, Grammar | None]:
    found: dict[str, Grammar | None] = {"none": None, "json_object": Grammar(Syntax.JSON_OBJECT, "")}
    found["regex"] = Grammar(Syntax.REGEX, r"(The|An?) ([a-z]{1,12} ){3,20}\.")
    found |= {name: schema_grammar(json.dumps(schema).encode(), strict=True) for name, schema in schemas().items()}
    return found


class Bench:
    def __init__(self) -> None:
        cache = cache_dir(os.environ)
        path = resolve(DEFAULT, cache).path
        assert path is not None
        self.model = Model(load(library_directory("", cache)), path)
        self.context = Context(self.model, ContextSettings(1, CONTEXT, 128, 128, 1, exact=True))
        began = time.thread_time()
        self.index = tokenizer(self.model)
        self.index_s = time.thread_time() - began
        self.ends = self.model.ends()  # asks the library about each token of the vocabulary
        self.sampler = Sampler(self.model.size, self.ends)

    def measure(self, grammar: Grammar | None) -> dict[str, Any]:
        compile_s, constraint = [], None
        if grammar is not None:
            for _ in range(5):
                began = time.thread_time()
                constraint = Constraint(matcher(self.index, grammar), self.ends)
                compile_s.append(time.thread_time() - began)
        prompt = self.model.tokenize(b"Here is what was asked for:\n", special=False)
        voice = Voice(Sampling(), 1, np.array(prompt, np.int32), np.empty(0, np.int32))
        voice.constraint = constraint
        steps, draws, said = self._say(voice, list(prompt))
        text = b"".join(map(self.model.piece, said))
        is_complete = len(said) < TOKENS
        if is_complete and grammar is not None and grammar.syntax is not Syntax.REGEX:
            json.loads(text)
        return {
            "compile_ms": round(1000 * min(compile_s), 2) if compile_s else None,
            "tokens": len(said),
            "complete": is_complete,
            "step_ms": round(1000 * percentile(steps, 0.5), 2),
            "draw_us_p50": round(1e6 * percentile(draws, 0.5)),
            "draw_us_p99": round(1e6 * percentile(draws, 0.99)),
        }

    def _say(self, voice: Voice, known: list[int]) -> tuple[list[float], list[float], list[int]]:
        context, said = self.context, list[int]()
        steps, draws = [], []
        computed = 0
        while len(said) < TOKENS:
            new = known[computed:]
            for row, token in enumerate(new):
                context.tokens[row], context.positions[row] = token, computed + row
                context.slots[row], context.wanted[row] = 0, row == len(new) - 1
            began = time.thread_time()
            assert context.decode(len(new)) == 0
            logits = context.logits(1)
            middle = time.thread_time()
            token = self.sampler.draw(logits, [voice], [len(said)])[0].token
            assert token >= 0
            if token not in self.ends:
                voice.said(token)
            steps.append(middle - began)
            draws.append(time.thread_time() - middle)
            if token in self.ends:
                break
            computed = len(known)
            known.append(token)
            said.append(token)
            if voice.is_complete:
                break
        context.cut(0, 0)
        return steps[1:] or steps, draws, said


def main() -> None:
    bench = Bench()
    figures: dict[str, Any] = {"vocabulary": bench.model.size, "index_s": round(bench.index_s, 2), "grammars": {}}
    print(f"index of {bench.model.size} tokens: {bench.index_s:.2f} s")
    for name, grammar in grammars().items():
        found = figures["grammars"][name] = bench.measure(grammar)
        print(f"{name:22} {found}")
    free = figures["grammars"]["none"]
    held = [one for name, one in figures["grammars"].items() if name != "none"]
    extra = [one["draw_us_p50"] - free["draw_us_p50"] for one in held]
    figures["extra_us_per_token"] = {"median": sorted(extra)[len(extra) // 2], "most": max(extra)}
    figures["extra_share_of_a_step"] = round(figures["extra_us_per_token"]["median"] / (1000 * free["step_ms"]), 4)
    print(figures["extra_us_per_token"], figures["extra_share_of_a_step"])
    write("grammars", "What does it cost to hold an answer to a grammar?", figures)


if __name__ == "__main__":
    main()
