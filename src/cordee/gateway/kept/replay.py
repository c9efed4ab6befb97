"""An answer that is complete and was kept, written once more: no replica is asked, and no seat is needed."""

from __future__ import annotations

from cordee.domain.call import Work
from cordee.domain.chunk import Finish
from cordee.domain.kept import Found, KeptBytes, KeptTokens, unpacked
from cordee.flow.facts import Fact
from cordee.flow.mailbox import Mailbox
from cordee.gateway.draft import Draft
from cordee.gateway.kept.call import Kept
from cordee.gateway.kept.sink import KeptSink
from cordee.gateway.prepare import stops
from cordee.http.exchange import Answer, Outlet
from cordee.ports import AwayError
from cordee.wire.position import Position


def replay_tokens(
    draft: Draft, work: Work, kept: Kept, answer: KeptTokens | KeptBytes, start: Position | None, said: bytes
) -> None:  # fmt: skip
    """From `start` on. Raises AwayError for an answer that does not belong to this request."""
    if not isinstance(answer, KeptTokens) or len(answer.outputs) != work.n:
        raise AwayError("the journal holds an answer that is none to this request")
    kept.is_journaled = True
    body = draft.body
    with_usage = body.stream_options is not None and body.stream_options.include_usage
    box: Mailbox[Fact] = Mailbox()
    sink = KeptSink(
        draft.exchange, box, draft.shape(kept.call.id, kept.call.created, kept.call.fingerprint),
        draft.model.vocabulary.piece, stops(body), n=work.n, stream=bool(body.stream), with_usage=with_usage,
        with_logprobs=False, tokens_in=len(work.prompt), headers=b"x-request-id: %s\r\n%s" % (kept.call.id.encode(), said),
        kept=kept, start=start, opening=b"",
    )  # fmt: skip
    draft.exchange.listener = sink
    for choice, (output, finish) in enumerate(zip(answer.outputs, answer.finishes, strict=True)):
        if not any(sink.token(choice, token, None) for token in unpacked(output)):
            sink.finish(choice, Finish(finish))
    sink.complete()


def replay_bytes(outlet: Outlet, found: Found, said: bytes) -> None:
    """As another server gave it. Raises AwayError for an answer that is none of another server."""
    answer = found.answer
    if not isinstance(answer, KeptBytes):
        raise AwayError("the journal holds an answer that is none to this request")
    headers = b"x-request-id: %s\r\n%s%s" % (found.call.id.encode(), said, answer.headers)
    if answer.stream:
        outlet.begin(answer.status, headers)
        outlet.end(answer.body)
    else:
        outlet.answer(Answer(answer.status, headers, answer.body))
