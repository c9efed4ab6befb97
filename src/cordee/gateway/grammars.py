"""Whether a call may ask for the grammar it asks for: decided before any worker hears of it.

What was checked once is remembered, so a schema that comes with every request costs a look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, Metric

from cordee.domain.call import Grammar, Syntax
from cordee.ports import AwayError, Grammars
from cordee.wire.errors import Invalid
from cordee.wire.grammar import Asked

KINDS = {
    Syntax.JSON_OBJECT: "schema", Syntax.JSON_SCHEMA: "schema", Syntax.REGEX: "regular expression", Syntax.LARK: "grammar",
}  # fmt: skip


class GrammarDoor:
    """`bytes_max`: how long a schema, an expression or a grammar may be."""

    def __init__(self, grammars: Grammars, bytes_max: int) -> None:
        self._grammars = grammars
        self._bytes_max = bytes_max

    def is_known(self, asked: Asked) -> bool:
        """It was found fine before: there is nothing to wait for."""
        return self._grammars.known(asked.grammar) == ""

    async def admit(self, asked: Asked) -> None:
        """Raises Invalid for what cannot be used, and says why."""
        await self._admit(asked, asked.parts)

    async def _admit(self, asked: Asked, parts: Callable[[], Sequence[Asked]] | None) -> None:
        grammar, param = asked.grammar, asked.param
        size = len(grammar.text.encode())
        if size > self._bytes_max:
            raise Invalid(f"{param!r} is {size} bytes long; at most {self._bytes_max} are allowed", param)
        try:
            complaint = await self._grammars.check(grammar)
        except AwayError as away:
            raise Invalid(f"{param!r} cannot be looked at now: {away}", param, status=503) from away
        if complaint:
            for part in () if parts is None else parts():
                await self._admit(part, None)
            raise _refused(grammar, param, complaint)


def _refused(grammar: Grammar, param: str, complaint: str) -> Invalid:
    cure = "; leave that out, or do without 'strict'" if "Unimplemented keys" in complaint else ""
    return Invalid(
        f"the {KINDS[grammar.syntax]} in {param!r} cannot be used: {complaint}{cure}", param, code="invalid_value"
    )


def checks(counts: Mapping[str, int]) -> Iterable[Metric]:
    """For gateway.metrics. `counts`: by verdict."""
    family = CounterMetricFamily(
        "cordee_grammar_checks", "Grammars that clients asked for, by what was found.", labels=["verdict"]
    )
    for verdict, count in sorted(counts.items()):
        family.add_metric([verdict], count)
    yield family
