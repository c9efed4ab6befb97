"""A provider outside as a replica: decides how a call is put to it, and who reads its answer.

A forwarded call comes back as events in the provider's words, one of our own models as text in the client's format.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence

from cordee.adapters.upstreams import journal as journals
from cordee.adapters.upstreams.cloud_attempt import Account, CloudAttempt
from cordee.adapters.upstreams.cloud_request import Rules, going_on, request
from cordee.adapters.upstreams.cloud_text import CloudText
from cordee.adapters.upstreams.continuing import Continuing
from cordee.adapters.upstreams.dialect import CHAT, ImpossibleError, continuing
from cordee.adapters.upstreams.endpoint import HOPS, VIA, Endpoint
from cordee.adapters.upstreams.events import Broken
from cordee.adapters.upstreams.openai import ENDED
from cordee.adapters.upstreams.passing import DONE, Passing
from cordee.domain.call import Call
from cordee.domain.replica import Continuation
from cordee.http.client import Receiver as HttpReceiver
from cordee.ports import Receiver, Running

SERVED_BY = b"x-cordee-served-by"


class Cloud:
    """Port Upstream for one provider. `continues`: what it can go on from."""

    def __init__(
        self, name: str, endpoint: Endpoint, rules: Rules, continues: Continuation, first_token_s: float, account: Account
    ) -> None:  # fmt: skip
        self.id = f"cloud/{name}"
        self.continues = continues
        self.rules = rules
        self._endpoint = endpoint
        self._first_token_s = first_token_s
        self._account = account
        self._loop = asyncio.get_running_loop()

    def start(
        self, call: Call, attempt: int, outputs: Sequence[array[int]], done: frozenset[int], remaining_s: float,
        receiver: Receiver, sent: Sequence[bytes] = (),
    ) -> Running:  # fmt: skip
        mark = (SERVED_BY, self.id.encode())
        path = call.path
        inner: HttpReceiver
        try:
            if call.work is not None:
                inner = CloudText(receiver, mark, call.work.n, stream=call.stream)
                said = b"".join(sent).decode()
                if said and not call.stream:
                    body = request(call, self.rules)  # it has not left yet
                elif said:
                    self._must_continue()
                    body = going_on(call, self.rules, said, len(sent))
                else:
                    body = request(call, self.rules)
            else:
                body = request(call, self.rules)
                if sent:
                    self._must_continue()
                    journal = journals.read(sent)
                    if journal.is_finished:
                        receiver.body(DONE)
                        receiver.complete()
                        self._account.settle(call.id, 0, 0)
                        return ENDED
                    name = self.rules.models[call.model]
                    way, path, body = continuing(
                        path, body, journal, Continuation.TEXT, self.rules.provider.dialect, name
                    )
                    receiver.continued(way)
                    inner = Continuing(receiver, journal, is_chat=path == CHAT)
                else:
                    inner = Passing(receiver, stream=call.stream)
        except (Broken, ImpossibleError) as impossible:
            self._account.settle(call.id, 0, 0)
            receiver.broken(f"the answer broke off and cannot go on: {impossible}", ran=False, fault=True)
            return ENDED
        hops = [header for header in call.headers if header[0] in (HOPS, VIA)]
        running = CloudAttempt(call, receiver, inner, mark, self._account)
        running.exchange = self._endpoint.post(path, body, call.id, hops, remaining_s, running)
        running.silence = self._loop.call_later(self._first_token_s, running.silent, self._first_token_s)
        return running

    def _must_continue(self) -> None:
        if self.continues is Continuation.RESTART:
            raise ImpossibleError("this provider can only begin anew")
