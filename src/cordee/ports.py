"""The doors: what the path of a call needs from the world, each as a small protocol with an implementation in `memory`
and one against the world in `adapters`."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

from cordee.domain.call import Call, Grammar
from cordee.domain.caller import Caller
from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.domain.kept import Found, KeptBytes, KeptCall, KeptTokens, Receipt, Reservation
from cordee.domain.outcome import Outcome
from cordee.domain.presence import Standing
from cordee.domain.replica import Continuation
from cordee.policy.lease import Ask, Grant
from cordee.policy.session import Session, SignIn


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

    def holder(self, key_id: str) -> tuple[Caller, str] | None:
        """Who owns the key of this id, and a mark that another key of the same id would not have; None where there is no such
        key (any more)."""
        ...


class People(Directory, Protocol):
    """A directory that also knows of people who signed in. Answers from memory."""

    def sign_in(self, token: bytes, scopes: frozenset[str], now: float) -> SignIn | None:
        """What a session with these scopes begins with that is exchanged for an access token; None for what is no token of a person who
        signed in here: a key, or a token that an application has."""
        ...

    def signed_in(self, user: str, sign_in: SignIn, began_s: float) -> tuple[Caller, str] | None:
        """For whom a session of this sign-in stands now, that began then, and the user's mark (see `holder`). None where the sign-in has
        ended or may have, or the user is gone."""
        ...


class Sessions(Protocol):
    """Sessions of browsers: sealed so that only gateways can have made them. Answers from memory but for `end`."""

    def seal(self, session: Session) -> bytes:
        """What the cookie holds: letters, digits and `-_.=` only."""
        ...

    def unseal(self, token: bytes) -> Session | None:
        """None for what no gateway of this installation has sealed. Says nothing about its age."""
        ...

    def token_of(self, session: Session) -> bytes:
        """What a page of ours knows and another site does not: the same for a session as long as the secret lives."""
        ...

    def is_token_of(self, session: Session, token: bytes) -> bool: ...

    def has_ended(self, session: Session) -> bool:
        """Whether it was ended before its time."""
        ...

    def end(self, session: Session, now: float) -> None:
        """Write down that it has ended, for all gateways. Blocks; raises where that cannot be done."""
        ...


class Ledger(Protocol):
    """Where outcomes go: a synchronous append to a bounded outbox."""

    def append(self, outcome: Outcome) -> None: ...


class AwayError(Exception):
    """What stands behind a port does not answer, or not in time, or not what it should. The message says which and how."""


class Grammars(Protocol):
    """Whether a grammar that a client sent can be used, found out where it can do no harm."""

    def known(self, grammar: Grammar) -> str | None:
        """What was found wrong with it before, "" for nothing; None: it has to be checked. Answers from memory."""
        ...

    async def check(self, grammar: Grammar) -> str:
        """What is wrong with it, "" for nothing. Raises AwayError where nobody can look at it now."""
        ...


class Journal(Protocol):
    """What outlives a gateway: kept calls with their answers, the keys of repeatable requests, receipts. Everything in it is
    forgotten after a time. Every method raises AwayError when the journal cannot be reached."""

    async def reserve(self, tenant: str, key: str, digest: str, call_id: str, keep_s: float) -> Reservation:
        """`key` stands for call `call_id` from now on, unless it stands for one already. Decided once for all gateways."""
        ...

    async def release(self, tenant: str, key: str, call_id: str) -> None:
        """The call failed: its key may be used again."""
        ...

    async def begin(self, call: KeptCall, keep_s: float) -> None:
        """Remember a call; done before its first byte leaves."""
        ...

    async def note(self, call_id: str, replica: str | None = None, charged: int | None = None) -> None:
        """Where the call is answered now, or what was accounted for in all, by the one who was to. Nothing happens for a call that
        is not remembered."""
        ...

    async def adopt(self, call_id: str, seen: str, owner: str) -> bool:
        """`owner` is to account for the call, in place of `seen`. False: by now it is not `seen` any more that was to."""
        ...

    async def complete(self, call_id: str, answer: KeptTokens | KeptBytes | None, keep_s: float) -> None:
        """The call ended well; None: its answer is too large to be kept, or cannot be. Nothing for one not remembered."""
        ...

    async def forget(self, call_id: str) -> None: ...

    async def find(self, call_id: str) -> Found | None: ...

    async def alive(self, owner: str, for_s: float) -> None:
        """The life of a gateway that is called `owner` lasts for another `for_s` seconds at least."""
        ...

    async def add_receipts(self, receipts: Sequence[Receipt], keep_s: float) -> None:
        """Some of them may have been added when it raises."""
        ...

    async def receipts(self, call_id: str) -> Sequence[Receipt]:
        """All there are of this call, in the order in which they were added: one for every gateway that had a part in it, and
        once more each time it was added again."""
        ...


class Limits(Protocol):
    """What gateways share of the limits of keys and tenants. Nothing on the path of a call waits for it."""

    async def lease(self, holder: str, asks: Sequence[Ask]) -> Sequence[Grant]:
        """One grant for each ask, in their order. `holder` names the life of the gateway that asks. Raises AwayError."""
        ...


class Marks(Protocol):
    """What gateways tell each other of requests that kill workers. Nothing on the path of a call waits for it."""

    async def tell(self, mark: bytes, for_s: float) -> None:
        """Requests with this fingerprint are to be refused for so long. Raises AwayError."""
        ...

    async def told(self) -> Sequence[tuple[bytes, float]]:
        """What is to be refused now, and for how many seconds more. Raises AwayError."""
        ...


class Vocabulary(Protocol):
    """Text to token ids and back, exactly as the model's worker sees them."""

    size: int

    def encode(self, text: str, *, special: bool, start: bool = False) -> array[int]:
        """Token ids of `text`. `special`: control-token strings become control tokens; `start`: put the
        beginning-of-sequence token first where the model wants one."""
        ...

    def whole(self, text: str) -> array[int]:
        """Token ids of a text that is to be read on its own, with those that the model has at its beginning and its end."""
        ...

    def pair(self, first: str, second: str) -> array[int]:
        """Token ids of two texts that are to be compared, with what the model has before, between and behind them."""
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

    def continued(self, way: Continuation) -> None:
        """An answer that has begun goes on like this, which may be less than the replica can at best. Comes before anything else of
        the attempt, and only from what is no worker of ours."""
        ...

    def cached(self, tokens: int) -> None:
        """So many tokens of the prompt need not be computed, because the worker still has them. May never come."""
        ...

    def result(self, choice: int, data: bytes) -> None:
        """What was computed for an item of a task, as little-endian 32-bit floats; the end of the choice follows."""
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

    def broken(self, cause: str, *, ran: bool, fault: bool = False, crash: int = 0) -> None:
        """The attempt is over without an end. `ran`: the replica may have started to work on it. `fault`: the work itself
        cannot be done, by no replica. `crash`: the replica's process ended while it had this many attempts of ours."""
        ...

    def busy(self, retry_after_s: float | None) -> None:
        """The replica refused before doing anything. None: it does not say when to ask again; 0: it will not do this one, and
        others may be asked of it at once."""
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


class Loader(Protocol):
    """Whoever can bring a model into memory."""

    async def load(self, model: str) -> Standing:
        """Ask for it; returns how it stands now, so asking again is how one waits. Raises OSError where nobody hears."""
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
        `sent` is what has left for the client and is to be gone on from, piece by piece: whole events of a forwarded stream, or
        text of a call with work that was answered as text. Empty where nothing has left or nothing was kept.

        Never raises for the replica's state: that comes through `receiver`, possibly before this returns."""
        ...
