"""The doors: what the path of a call needs from the world, each as a small protocol with an implementation in `memory`
and one against the world in `adapters`."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

from cordee.domain.call import Call
from cordee.domain.caller import Caller
from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.domain.outcome import Outcome


class Timer(Protocol):
    """A wait that has been asked for."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Monotonic time in seconds, and waits on it. Production: the event loop's; simulation: a heap."""

    def now(self) -> float: ...

    def call_later(self, delay_s: float, what: Callable[[], None]) -> Timer: ...


class Directory(Protocol):
    """Who owns a key. Answers from memory: no I/O on the path of a call."""

    def identify(self, key: bytes) -> Caller | None: ...


class Ledger(Protocol):
    """Where outcomes go: a synchronous append to a bounded outbox."""

    def append(self, outcome: Outcome) -> None: ...


class Vocabulary(Protocol):
    """Text to token ids and back, exactly as the model's worker sees them."""

    size: int

    def encode(self, text: str, *, special: bool, start: bool = False) -> array[int]:
        """Token ids of `text`. `special`: control-token strings become control tokens; `start`: put the
        beginning-of-sequence token first where the model wants one."""
        ...

    def piece(self, token: int) -> bytes:
        """The bytes of one token; control tokens have none. Raises IndexError outside 0 … size−1."""
        ...

    def control_strings(self) -> Sequence[str]:
        """Every string that `encode(special=True)` would turn into a control token."""
        ...

    def chat_template(self) -> str:
        """The model's own Jinja template, or "" where it has none."""
        ...

    def template_tokens(self) -> dict[str, str]:
        """Values of `bos_token` and `eos_token` for the template."""
        ...


class Receiver(Protocol):
    """Where an attempt pushes what it receives. All methods are synchronous and must not block."""

    def accepted(self) -> None:
        """The replica has taken the call."""
        ...

    def token(self, choice: int, index: int, token: int, logprobs: TokenLogprobs | None) -> None:
        """Token number `index` of a choice."""
        ...

    def finish(self, choice: int, index: int, why: Finish) -> None:
        """A choice is complete after `index` tokens."""
        ...

    def text(self, choice: int, text: str, why: Finish = Finish.NONE) -> None:
        """More of a choice from a replica that speaks text, for a call whose client is answered in tokens' stead with text.
        `why` other than NONE: the choice is complete with this."""
        ...

    def usage(self, tokens_in: int, tokens_out: int) -> None:
        """What such a replica counted; comes before the last choice is complete."""
        ...

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """A forwarded answer begins."""
        ...

    def body(self, data: bytes) -> None:
        """Bytes of a forwarded answer."""
        ...

    def complete(self) -> None:
        """A forwarded answer is whole."""
        ...

    def broken(self, cause: str, *, ran: bool, fault: bool = False) -> None:
        """The attempt is over without an end. `ran`: the replica may have started to work on it. `fault`: the work itself
        cannot be done, by no replica."""
        ...

    def busy(self, retry_after_s: float | None) -> None:
        """The replica refused before doing anything."""
        ...


class Running(Protocol):
    """An attempt under way."""

    def cancel(self) -> None:
        """Stop it; nothing is pushed any more. Idempotent."""
        ...

    def detach(self) -> None:
        """Nothing is pushed any more, but a kept answer is finished and held ready for whoever comes back for it. The same as
        `cancel` where nothing can be kept. Idempotent."""
        ...


class Upstream(Protocol):
    """The way to one replica."""

    def start(
        self,
        call: Call,
        attempt: int,
        outputs: Sequence[array[int]],
        done: frozenset[int],
        remaining_s: float,
        receiver: Receiver,
        sent: Sequence[bytes] = (),
    ) -> Running:
        """Begin an attempt. `outputs[i]` are the tokens of choice i emitted so far, `done` the choices that are complete;
        `sent` is what of a forwarded stream has left for the client, from which to go on.

        Never raises for the replica's state: that comes through `receiver`, possibly before this returns."""
        ...
