"""What a line of an input file must be.

Decides for one line at a time, so that a file of any size is read in pieces; knows no file and no database.
"""

from __future__ import annotations

import hashlib

import msgspec

from cordee.services.batches.records import Endpoint, Fault, Line

CUSTOM_ID_CHARACTERS_MAX = 512
MODEL_CHARACTERS_MAX = 256
METHOD = "POST"
_QUOTED = 64  # characters of a value in a message
_DIGEST_BYTES = 16


class _Given(msgspec.Struct, forbid_unknown_fields=True):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Body(msgspec.Struct):
    model: str
    stream: bool | None = False
    background: bool | None = False


_DECODER = msgspec.json.Decoder(_Given)
_BODY = msgspec.json.Decoder(_Body)


class Check:
    """The lines of one file, in order: what must be unique, and the same in all of them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._ids: set[bytes] = set()
        self.model: str | None = None  # of the first line

    def line(self, number: int, text: bytes) -> Line | Fault:
        """One line without its end."""
        try:
            given = _DECODER.decode(text)
        except msgspec.ValidationError as error:
            return Fault("invalid_request", f"this line is not a request: {error}.", None, number)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Fault("invalid_json_line", "this line is not parseable as a JSON object.", None, number)
        return self._given(number, given)

    def _given(self, number: int, given: _Given) -> Line | Fault:
        if not 1 <= len(given.custom_id) <= CUSTOM_ID_CHARACTERS_MAX or not given.custom_id.isprintable():
            said = f"custom_id must have 1 to {CUSTOM_ID_CHARACTERS_MAX} printable characters."
            return Fault("invalid_custom_id", said, "custom_id", number)
        if given.method != METHOD:
            return Fault(
                "invalid_method", f"method must be {METHOD}, not {given.method[:_QUOTED]!r}.", "method", number
            )
        if given.url != self._endpoint.value:
            said = f"url must be the batch's endpoint {self._endpoint.value}, not {given.url[:_QUOTED]!r}."
            return Fault("mismatched_url", said, "url", number)
        digest = hashlib.blake2b(given.custom_id.encode(), digest_size=_DIGEST_BYTES).digest()
        if digest in self._ids:
            said = f"custom_id {given.custom_id[:_QUOTED]!r} stands in this file already."
            return Fault("duplicate_custom_id", said, "custom_id", number)
        fault = self._body(number, given.body)
        if fault is not None:
            return fault
        self._ids.add(digest)
        return Line(number, given.custom_id, bytes(given.body))

    def _body(self, number: int, text: msgspec.Raw) -> Fault | None:
        try:
            body = _BODY.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Fault("invalid_body", f"body must be a request with a model: {error}.", "body", number)
        for name, is_set in (("stream", body.stream), ("background", body.background)):
            if is_set:
                return Fault("invalid_body", f"{name} must not be set in a batch.", f"body.{name}", number)
        if not 1 <= len(body.model) <= MODEL_CHARACTERS_MAX or not body.model.isprintable():
            said = f"model must have 1 to {MODEL_CHARACTERS_MAX} printable characters."
            return Fault("invalid_body", said, "body.model", number)
        self.model = self.model or body.model
        return None


def key_of(batch_id: str, custom_id: str) -> str:
    """The Idempotency-Key of a line: the same whenever and by whichever process it is asked."""
    return f"{batch_id}.{hashlib.blake2b(custom_id.encode(), digest_size=_DIGEST_BYTES).hexdigest()}"
