"""What a client has of a forwarded stream, read back from the very bytes that left for it: from this an answer can go on.

It is read only when a stream has broken off; while all is well nobody looks into the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cordee.adapters.upstreams.events import Event, Lines, decode


@dataclass(slots=True)
class Journal:
    """`first`: the envelope of the stream. `text` of the one choice; `ids` its tokens where the server said them (those after
    the last text are left out: their text is still to come), `prompt_ids` the prompt's. `events` with text: about as many tokens.
    `is_whole`: the last of `ids` ends a character. Of several that came in one event the last may be the beginning of one that was held
    back, and a server that is given such a prompt answers with what its tokenizer makes of half a character.
    """

    first: Event = field(default_factory=Event)
    text: str = ""
    ids: list[int] = field(default_factory=list)
    prompt_ids: list[int] = field(default_factory=list)
    events: int = 0
    choices: int = 0
    is_finished: bool = False
    is_only_text: bool = True
    has_all_ids: bool = True
    is_whole: bool = False

    @property
    def emitted(self) -> int:
        """Tokens of the answer so far, by count where they are known, else by events."""
        return len(self.ids) if self.has_ids else self.events

    @property
    def has_ids(self) -> bool:
        return self.has_all_ids and bool(self.ids) and bool(self.prompt_ids)


def read(sent: Sequence[bytes]) -> Journal:
    """Raises events.Broken for what cannot have been a stream."""
    journal, lines = Journal(), Lines()
    late: list[int] = []
    is_first = True
    for payload in lines.feed(b"".join(sent)):
        event = decode(payload)
        if is_first:
            journal.first, is_first = event, False
        if event.prompt_token_ids:
            journal.prompt_ids = event.prompt_token_ids
        for choice in event.choices:
            journal.choices = max(journal.choices, choice.index + 1)
            journal.is_only_text = journal.is_only_text and not choice.is_more_than_text
            journal.is_finished = journal.is_finished or choice.finish_reason is not None
            late += choice.token_ids or []
            if choice.content:
                journal.text += choice.content
                journal.events += 1
                journal.has_all_ids = journal.has_all_ids and choice.token_ids is not None
                journal.ids += late
                journal.is_whole = len(choice.token_ids or ()) == 1
                late = []
    return journal
