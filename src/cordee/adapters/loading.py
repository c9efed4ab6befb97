"""Port Loader: models are asked for at the control socket of the supervisor, one question a connection."""

from __future__ import annotations

import asyncio

import msgspec

from cordee.domain.presence import Presence, Standing

ANSWER_S = 2.0  # the supervisor looks nothing up to answer; longer is a stopped one
LINE_BYTES_MAX = 64 * 1024


class _Told(msgspec.Struct):
    """What of the answer is of interest here."""

    state: Presence
    why: str = ""


_decoder = msgspec.json.Decoder(_Told)


class ControlLoader:
    """`path`: of the control socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def load(self, model: str) -> Standing:
        question = msgspec.json.encode({"kind": "load", "model": model}) + b"\n"
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(self._path, limit=LINE_BYTES_MAX)
                try:
                    writer.write(question)
                    told = _decoder.decode(await reader.readline())
                finally:
                    writer.close()
        except (ValueError, msgspec.DecodeError) as error:  # an overlong line, or one that broke off
            raise ConnectionError(f"the supervisor's answer cannot be read: {error}") from error
        return Standing(told.state, told.why)
