"""A body of multipart/form-data, read field by field as it comes in: nothing is gathered, neither in memory nor on a disk.

The parser is python-multipart's. Fields come in the order in which the client sent them; one is read to its end before the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from cordee.domain.record import record
from cordee.services.base.errors import Problem
from cordee.services.files.rules.kinds import BYTES

FIELDS_MAX = 32
HEADERS_MAX, HEADER_BYTES_MAX = 8, 4096  # of one field
BOUNDARY_BYTES_MAX = 256  # RFC 2046 has 70; some clients are longer
TEXT_BYTES_MAX = 4096  # of a field that is no file
_OVERHEAD_BYTES = FIELDS_MAX * HEADERS_MAX * HEADER_BYTES_MAX
BODY_OVERHEAD_BYTES = _OVERHEAD_BYTES + FIELDS_MAX * TEXT_BYTES_MAX  # a body may have beside its file


@record
class Field:
    """The head of a field. `filename`: None where it has none."""

    name: str
    filename: str | None
    media_type: str


@record
class _Data:
    piece: bytes


@record
class _End:
    pass


class Form:
    """The fields of one body. `body`: its pieces as they come."""

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 0 < len(boundary) <= BOUNDARY_BYTES_MAX:
            raise Problem(
                400, "The body must be multipart/form-data with a boundary in its Content-Type.", code="not_multipart"
            )
        self._body = body
        self._told: deque[Field | _Data | _End] = deque()
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = bytearray(), bytearray()
        self._fields = 0
        self._is_over = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._began, "on_header_field": self._header_name, "on_header_value": self._header_value,
                "on_header_end": self._header_over, "on_headers_finished": self._headed, "on_part_data": self._came,
                "on_part_end": self._ended, "on_end": self._finished,
            },
            max_header_count=HEADERS_MAX,
            max_header_size=HEADER_BYTES_MAX,
        )  # fmt: skip

    async def fields(self) -> AsyncIterator[Field]:
        """The heads. What of a field has not been read when the next one is asked for is passed over. Raises Problem."""
        while (told := await self._next()) is not None:
            if isinstance(told, Field):
                yield told

    async def content(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the field that has just come. Raises Problem."""
        while isinstance(told := await self._next(), _Data):
            yield told.piece
        if told is None:
            raise _broken("it ends in the middle of a field")

    async def text(self, name: str) -> str:
        """The field that has just come, as a short text. Raises Problem."""
        found = bytearray()
        async for piece in self.content():
            found += piece
            if len(found) > TEXT_BYTES_MAX:
                raise Problem(400, f"{name}: it is longer than {TEXT_BYTES_MAX} bytes.", name)
        try:
            return found.decode()
        except UnicodeDecodeError as error:
            raise Problem(400, f"{name}: it is not UTF-8.", name) from error

    async def _next(self) -> Field | _Data | _End | None:
        while not self._told:
            if self._is_over:
                return None
            try:
                piece = await anext(self._body, None)
            except ClientDisconnect as error:
                raise _broken("the client went away") from error
            if piece is None:
                raise _broken("it ends before its last boundary")
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise _broken("it does not follow RFC 7578") from error
        return self._told.popleft()

    def _began(self) -> None:
        self._fields += 1
        if self._fields > FIELDS_MAX:
            raise Problem(400, f"The body has more than {FIELDS_MAX} fields.", code="too_many_fields")
        self._headers.clear()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_over(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _headed(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if kind != b"form-data" or b"name" not in options:
            raise Problem(400, "A field of the body has no name.", code="nameless_field")
        filename = options.get(b"filename")
        self._told.append(
            Field(
                options[b"name"].decode(errors="replace"),
                None if filename is None else filename.decode(errors="replace"),
                self._headers.get(b"content-type", BYTES.encode()).decode("latin-1"),
            )
        )

    def _came(self, data: bytes, start: int, end: int) -> None:
        if end > start:
            self._told.append(_Data(data[start:end]))

    def _ended(self) -> None:
        self._told.append(_End())

    def _finished(self) -> None:
        self._is_over = True


def _broken(why: str) -> Problem:
    return Problem(400, f"The body cannot be read: {why}.", code="invalid_multipart")
