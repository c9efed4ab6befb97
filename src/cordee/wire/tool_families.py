"""How families of models write calls of tools into their text, told from the chat template that a model was trained with.

No standard says how a model writes a call; its template shows the model its own earlier calls, so the marks of the format stand there.
A model whose template has none of the marks is expected to write bare JSON, which is what most of them do when they are told of tools.
"""

from __future__ import annotations

from cordee.domain.record import record


@record
class Family:
    """`start`, `end`: the marks around a call, "" where there are none; a `list` of calls stands behind one mark. `key` is what the
    arguments are called beside "name". `before`, `after`, `between`, `prologue`, `epilogue`: what is written where a grammar leaves no
    choice. `tag`: an optional mark in front of bare JSON. `id_chars`: how long the id of a call must be in a prompt, 0: as it came."""

    name: str
    key: str
    start: str = ""
    end: str = ""
    tag: str = ""
    is_list: bool = False
    prologue: str = ""
    before: str = ""
    after: str = ""
    between: str = "\n"
    epilogue: str = ""
    id_chars: int = 0


HERMES = Family(
    "hermes", "arguments", "<tool_call>", "</tool_call>", before="<tool_call>\n", after="\n</tool_call>"
)  # also Qwen
MISTRAL = Family(
    "mistral", "arguments", "[TOOL_CALLS]", is_list=True, prologue="[TOOL_CALLS][", between=", ", epilogue="]", id_chars=9
)  # fmt: skip
LLAMA = Family("llama", "parameters", tag="<|python_tag|>", between="; ")
JSON = Family("json", "arguments")
_MARKS = (
    ("[TOOL_CALLS]", MISTRAL), ("<tool_call>", HERMES), ("<|python_tag|>", LLAMA), ('"parameters": ', LLAMA),
)  # fmt: skip


def family_of(template: str) -> Family:
    """Of the source of a chat template."""
    return next((family for mark, family in _MARKS if mark in template), JSON)
