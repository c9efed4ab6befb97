"""What a server reached by URL has and is: its models, asked for again and again, and its kind, asked for once when it is found.

The kind decides how it can go on with an answer that broke off (`dialect`). A server that shows nothing is taken for one that
can only begin anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from cordee.adapters.upstreams.collect import get
from cordee.adapters.upstreams.dialect import Dialect
from cordee.adapters.upstreams.endpoint import Endpoint
from cordee.adapters.upstreams.openai import Server

AGAIN_S, AGAIN_S_MAX, REFRESH_S = 0.1, 2.0, 15.0
ANSWER_S_MAX = 4.0
# Paths that only one kind has, and a field that its answer holds.
SIGNS = (
    ("/props", "default_generation_settings", Dialect.LLAMA_CPP),
    ("/server_info", "model_path", Dialect.SGLANG),
    ("/get_server_info", "model_path", Dialect.SGLANG),  # releases before 0.5.6
    ("/version", "version", Dialect.VLLM),
)


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


async def models(endpoint: Endpoint) -> list[str]:
    """The ids at /v1/models. Raises OSError when they cannot be had."""
    status, body = await get(endpoint, "/v1/models")
    if status != 200:
        raise OSError(f"GET /v1/models was answered with status {status}")
    try:
        return [model.id for model in msgspec.json.decode(body, type=_Models).data]
    except msgspec.MsgspecError as error:
        raise OSError(f"GET /v1/models was answered with something else: {error}") from error


async def kind(endpoint: Endpoint) -> Dialect:
    """What the server is. Raises OSError when it does not answer at all."""
    for path, field, dialect in SIGNS:
        status, body = await get(endpoint, path)
        if status == 200:
            try:
                if field in _object(body):
                    return dialect
            except msgspec.MsgspecError:
                pass  # something else answers at this path
    return Dialect.UNKNOWN


def local_names(ids: list[str], names: Mapping[str, str]) -> list[str]:
    """What the server has, by our names. With a map only what stands in it."""
    return [local for local, remote in names.items() if remote in ids] if names else ids


async def watch(server: Server, found: Callable[[list[str]], None], failed: Callable[[str], None]) -> None:
    """Ask for the models now, again soon while that fails, and from time to time after it."""
    pause_s, is_known = AGAIN_S, False
    while True:
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                ids = await models(server.endpoint)
                if not is_known:
                    server.found(await kind(server.endpoint))
                    is_known = True
        except (OSError, TimeoutError) as error:
            failed(str(error) or "no answer in time")
            is_known = False  # another one may stand there afterwards
            await asyncio.sleep(pause_s)
            pause_s = min(AGAIN_S_MAX, pause_s * 2)
            continue
        found(local_names(ids, server.models))
        pause_s = AGAIN_S
        await asyncio.sleep(REFRESH_S)
