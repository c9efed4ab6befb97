"""Any OpenAI-compatible server as a replica: the body goes out as it came, the answer comes back as it is.

What such a server can promise is less than what our own workers can. An answer that breaks off before its first event is
asked for again elsewhere; after it, it goes on from its tokens or its text where the server can do that, and else ends in a
clear error.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from msgspec import Raw

from cordee.adapters.upstreams import dialect as dialects
from cordee.adapters.upstreams import journal as journals
from cordee.adapters.upstreams.continuing import Continuing
from cordee.adapters.upstreams.dialect import CHAT, Dialect, ImpossibleError
from cordee.adapters.upstreams.endpoint import Endpoint
from cordee.adapters.upstreams.events import Broken
from cordee.adapters.upstreams.passing import DONE, Passing
from cordee.domain.call import Call
from cordee.domain.replica import Continuation
from cordee.ports import Receiver, Running

_SAME_NAMES: Mapping[str, str] = MappingProxyType({})


class Server:
    """Port Upstream for one server. `models`: what it calls our models, by our names, where that differs. `continues`: the
    setting of that name; with "auto" what `found` has learned of the server decides."""

    def __init__(
        self, endpoint: Endpoint, models: Mapping[str, str] = _SAME_NAMES, continues: str = "auto", name: str = ""
    ) -> None:
        self.endpoint = endpoint
        self.id = name or endpoint.id
        self.models = models
        self.continues = Continuation.RESTART
        self.dialect = Dialect.UNKNOWN
        self._wished = continues
        self.found(Dialect.UNKNOWN)

    def found(self, dialect: Dialect) -> None:
        """It has shown what it is."""
        self.dialect = dialect
        self.continues = dialects.able(dialect, self._wished)

    def start(
        self, call: Call, attempt: int, outputs: Sequence[array[int]], done: frozenset[int], remaining_s: float,
        receiver: Receiver, sent: Sequence[bytes] = (),
    ) -> Running:  # fmt: skip
        if sent:
            return self._continue(call, remaining_s, receiver, sent)
        body = call.body
        name = self.models.get(call.model)
        if name is not None:
            fields = dialects.fields_of(body)
            fields["model"] = Raw(dialects.encode(name))
            body = dialects.encode(fields)
        if call.stream and self.continues is Continuation.TOKENS:
            body = dialects.with_ids(body)
        return self.endpoint.post(
            call.path, body, call.id, call.headers, remaining_s, Passing(receiver, stream=call.stream)
        )

    def _continue(self, call: Call, remaining_s: float, receiver: Receiver, sent: Sequence[bytes]) -> Running:
        try:
            journal = journals.read(sent)
            if journal.is_finished:  # only the end was missing
                receiver.body(DONE)
                receiver.complete()
                return ENDED
            way, path, body = dialects.continuing(
                call.path, call.body, journal, self.continues, self.dialect, self.models.get(call.model)
            )
        except (Broken, ImpossibleError) as impossible:
            receiver.broken(f"the answer broke off and cannot go on: {impossible}", ran=False, fault=True)
            return ENDED
        receiver.continued(way)
        answer = Continuing(receiver, journal, is_chat=call.path == CHAT)
        return self.endpoint.post(path, body, call.id, call.headers, remaining_s, answer)


class Ended:
    """Port Running of an attempt that needed no request."""

    def cancel(self) -> None: ...

    def detach(self) -> None: ...


ENDED = Ended()
