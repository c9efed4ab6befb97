"""The grammar of an answer that calls tools: names that were offered, arguments of their schemas, in the words of the model's family.

Where a call is required, the answer is calls and nothing else. Where the model decides, the grammar leaves it free until it writes the
mark of a call, and holds it from there on; models without a mark, from a brace at the very beginning on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cordee.domain.call import Grammar, Syntax
from cordee.wire.errors import Invalid
from cordee.wire.grammar import FORMAT, schema_grammar
from cordee.wire.tool_families import Family
from cordee.wire.tools import TOOLS, Offer

CALLS_MAX = 16  # of a constrained answer: small models would go on for ever
ANY_OBJECT = b'{"type":"object"}'


def forced(family: Family, offer: Offer, spelled: Sequence[str]) -> Grammar:
    """Calls and nothing else. `spelled`: marks that are control tokens, which no grammar says: the first one stands in the prompt."""
    lines = _entries(family, offer)
    return Grammar(Syntax.LARK, "start: calls\n" + _calls(family, _many(offer), spelled) + lines)


def free(family: Family, offer: Offer, spelled: Sequence[str]) -> Grammar | None:
    """Any text, until the model calls. None: that cannot be said for this family."""
    if family.start:
        if family.start in spelled or family.is_list:
            return None
        start = _literal(family.start)
        plain = f"PLAIN: /(?s:.*)/ & ~/(?s:.*{family.start}.*)/\nhead[suffix={start}]: /(?s:.*)/\n"
        tail = f"tail: {_literal(family.before.removeprefix(family.start))} entry {_literal(family.after)}\n"
        return Grammar(
            Syntax.LARK, f"start: PLAIN | (head tail){{1,{_many(offer)}}}\n" + plain + tail + _entries(family, offer)
        )
    plain = "PLAIN: /(\\s*[^\\s{\\[](?s:.*))?/\n"
    return Grammar(
        Syntax.LARK, "start: PLAIN | calls\n" + plain + _calls(family, _many(offer), ()) + _entries(family, offer)
    )


def either(family: Family, offer: Offer, spelled: Sequence[str], answer: Grammar) -> Grammar:
    """Calls, or an answer of the shape that was asked for. Raises Invalid."""
    schemas: Mapping[Syntax, str] = {
        Syntax.JSON_SCHEMA: answer.text, Syntax.JSON_OBJECT: schema_grammar(ANY_OBJECT, strict=True).text,
    }  # fmt: skip
    schema = schemas.get(answer.syntax)
    if schema is None or family.start in spelled:
        raise Invalid(
            f'{FORMAT!r} other than JSON cannot be combined with {TOOLS!r}; set \'tool_choice\' to "required" or "none"'
            if schema is None
            else f'this model cannot choose between {TOOLS!r} and {FORMAT!r}; set \'tool_choice\' to "required" or "none"',
            FORMAT,
        )
    return Grammar(
        Syntax.LARK,
        f"start: calls | answer\nanswer: %json {schema}\n" + _calls(family, _many(offer), ()) + _entries(family, offer),
    )


def _many(offer: Offer) -> int:
    return CALLS_MAX if offer.is_parallel else 1


def _calls(family: Family, most: int, spelled: Sequence[str]) -> str:
    prologue, before, after, epilogue = family.prologue, family.before, family.after, family.epilogue
    if family.start in spelled:
        prologue, before = prologue.removeprefix(family.start), before.removeprefix(family.start)
        most = most if family.is_list else 1  # a further mark cannot be written
    if family.end and family.end in spelled:
        after = ""
    more = f" ({_literal(family.between)} call){{0,{most - 1}}}" if most > 1 else ""
    parts = [_literal(text) for text in (prologue, before, after, epilogue)]
    around = [part if part != '""' else "" for part in parts]
    return f"calls: {around[0]} call{more} {around[3]}\ncall: {around[1]} entry {around[2]}\n"


def _entries(family: Family, offer: Offer) -> str:
    lines = ["entry: " + " | ".join(f"f{at}" for at in range(len(offer.callable_)))]
    for at, tool in enumerate(offer.callable_):
        try:
            schema = schema_grammar(tool.schema, strict=tool.is_strict).text
        except (ValueError, RecursionError) as error:
            raise Invalid(
                f"the parameters of the function {tool.name!r} are not a JSON schema: {error}", tool.where
            ) from None
        head = f'{{"name": {json.dumps(tool.name)}, "{family.key}": '
        lines += [f'f{at}: {_literal(head)} v{at} "}}"', f"v{at}: %json {schema}"]
    return "\n".join(lines) + "\n"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
