"""POST /v1/embeddings: the typed body, and the answer as its vectors come in.

OpenAI's format. The official clients ask for base64 where nothing is said, because it takes a quarter of the bytes: the numbers as
they are, little-endian 32-bit floats.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.json import Decoder

from cordee.wire.errors import Invalid
from cordee.wire.floats import FLOAT_BYTES, floats, packed, shortened
from cordee.wire.requests import Label, Model
from cordee.wire.shape import Usage, encode

INPUTS_MAX = 2048  # OpenAI's own limit
TOKENS_GIVEN_MAX = 1_048_576  # of a text that comes as token ids, before it is held against the model's context


class EmbeddingsRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of the request. `input` is looked at more closely by `inputs`."""

    model: Model
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    # without effect on the answer
    user: Label | None = None


EMBEDDINGS = Decoder(EmbeddingsRequest)
Text = str | list[int]


def inputs(body: EmbeddingsRequest) -> list[Text]:
    """The texts, each as text or as token ids. Raises Invalid."""
    given = body.input
    if isinstance(given, str):
        texts: list[Text] = [given]
    elif _are_tokens(given) and given:
        texts = [given]
    else:
        texts = given
    if not texts:
        raise Invalid("'input' is empty; send one text or more", "input")
    if len(texts) > INPUTS_MAX:
        raise Invalid(f"'input' has {len(texts)} texts, at most {INPUTS_MAX} can be; send several requests", "input")
    for at, text in enumerate(texts):
        if not isinstance(text, str) and not (isinstance(text, list) and _are_tokens(text)):
            raise Invalid(f"'input[{at}]' is neither a text nor a list of token ids", f"input[{at}]")
        if not text:
            raise Invalid(f"'input[{at}]' is empty; a vector needs some text", f"input[{at}]")
    return texts


def _are_tokens(given: list[Any]) -> bool:
    return len(given) <= TOKENS_GIVEN_MAX and all(type(token) is int and 0 <= token < 1 << 32 for token in given)


class EmbeddingsAnswer:
    """The vectors of one request. Each is put into words when it comes, so that none of the work is left for the end."""

    def __init__(self, body: EmbeddingsRequest, count: int) -> None:
        self._model = body.model
        self._is_base64 = body.encoding_format == "base64"
        self._dimensions = body.dimensions
        self._width = 0
        self._entries: list[bytes] = [b""] * count

    def result(self, item: int, data: bytes) -> None:
        """The vector of one text; the last word counts where it comes twice."""
        self._width = len(data) // FLOAT_BYTES
        wanted = self._dimensions
        if wanted is not None and wanted < self._width:
            data = packed(shortened(floats(data), wanted))
        vector = b'"%s"' % b64encode(data) if self._is_base64 else encode(floats(data).tolist())
        self._entries[item] = b'{"object":"embedding","index":%d,"embedding":%s}' % (item, vector)

    def whole(self, id: str, created: int, used: Usage) -> bytes:
        """The body. Raises Invalid where more was asked for than the vectors have."""
        del id, created  # the format has neither
        if self._dimensions is not None and self._dimensions > self._width:
            raise Invalid(
                f"'dimensions' is {self._dimensions}, the vectors of {self._model} have {self._width}; ask for that or fewer",
                "dimensions",
            )
        usage = encode({"prompt_tokens": used.tokens_in, "total_tokens": used.tokens_in})
        head = b'{"object":"list","model":%s,"usage":%s,"data":[' % (encode(self._model), usage)
        return head + b",".join(self._entries) + b"]}"
