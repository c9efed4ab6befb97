"""The frames between a gateway and a worker, and their codec. Bytes in, frames out; no I/O.

A frame is `length:u32 kind:u8 payload`, little-endian, `length` counting kind and payload. A gateway names each attempt
by a `handle` that is never used twice on a connection: late frames of an attempt that was given up meet an unknown handle
and are dropped. Tokens of all attempts of one decode step travel in one Step frame of fixed 16-byte rows.

| kind | from | payload |
|---|---|---|
| HELLO | both, first | MessagePack `WorkerHello` or `GatewayHello` |
| SUBMIT | gateway | `handle:u32` + MessagePack `Submit` |
| CANCEL | gateway | `handle:u32` |
| ACK | worker | `handle:u32`, sent on receipt and before any work |
| REFUSE | worker | `handle:u32` + MessagePack `Refuse`; the attempt is over |
| STEP | worker | load (24 bytes) + rows `handle:u32 choice:u16 finish:u16 index:u32 token:u32` |
| LOGPROBS | worker | MessagePack list of `(handle, choice, index, chosen, [(token, logprob)…])`; comes before its STEP |
| BEAT | worker | load (24 bytes); only when nothing else was sent for a while |
| DRAIN | worker | empty: takes no new attempts, finishes those it has |
| ATTACH | gateway | `handle:u32` + MessagePack `Attach`: send the kept answer of a call from its beginning, and go on |
| DETACH | gateway | `handle:u32`: this listener goes, a kept answer goes on; the same as CANCEL where nothing is kept |
| CACHED | worker | rows `handle:u32 tokens:u32`: so much of the prompt need not be computed; comes before the first token |
| FIGURES | worker | MessagePack `domain.replica.EngineFigures`; now and then, where they have changed |
| GPUS | worker | MessagePack list of `domain.replica.Gpu`; after HELLO and now and then, where it has any |
| RESULT | worker | `handle:u32 choice:u32` + 32-bit floats: what was computed for an item of a task; its end comes in a later STEP |

A load is `running:u32 waiting:u32 tokens:u32 seen:u32 steps:u32 cpu:u8 memory:u8 gpu:u8` and a byte of nothing.

In a STEP row with `finish == 0`, `token` is output number `index` of that choice. With `finish != 0` the choice is complete
after `index` tokens and `token` is unused: the end-of-generation token itself is never sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct as Layout

import msgspec

from cordee.domain.replica import EngineFigures, Gpu, Load

PROTOCOL = 3
FRAME_BYTES_MAX = 64 * 1024 * 1024  # a prompt of a few million tokens; beyond it the peer is not one of ours

HELLO, SUBMIT, CANCEL, ACK, REFUSE, STEP, LOGPROBS, BEAT, DRAIN, ATTACH, DETACH, CACHED, RESULT, GPUS, FIGURES = range(
    1, 16
)
KINDS = frozenset(range(1, 16))

_HEAD = Layout("<IB")
_HANDLE = Layout("<I")
_LOAD = Layout("<IIIIIBBBx")
ROW = Layout("<IHHII")
_PAIR = Layout("<II")
HEAD_BYTES = _HEAD.size
FLOAT_BYTES = 4


class FrameError(Exception):
    """The peer sent what no peer of ours sends; the connection must be closed."""


class WorkerHello(msgspec.Struct, frozen=True):
    """A worker introduces itself. `capacity_*`: see domain.replica.Capacity; the rest is its ModelCard. `tasks` are those of
    domain.call.Task that it can do, `adapters` the names of the LoRA adapters it has loaded, `preempts` whether it
    lets calls of a lower class make room."""

    protocol: int
    worker: str
    pid: int
    model: str
    fingerprint: str
    context: int
    vocabulary: int
    exact: bool
    capacity_sequences: int
    capacity_tokens: int
    beat_s: float
    tasks: list[str] = []
    adapters: list[str] = []
    preempts: bool = False


class GatewayHello(msgspec.Struct, frozen=True):
    """A gateway introduces itself."""

    protocol: int
    gateway: str
    pid: int


class Submit(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt. `prompt` and `outputs[i]` are little-endian u32 token ids; `outputs[i]` is what choice `choices[i]` has
    emitted so far (empty at the first attempt). `remaining_s`: what is left of the call's total deadline. `keep`: the id under
    which the answer is kept for whoever attaches to it, "" for one that ends with its connection. `grammar`: syntax and text.
    `items` of a task other than generation: (token ids, the first one to be scored), all of them; choice i is item i."""

    call: str
    attempt: int
    prompt: bytes
    choices: list[int]
    outputs: list[bytes]
    max_tokens: int
    remaining_s: float
    priority: int = 1
    tenant: str = ""
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: list[tuple[int, float]] = []
    seed: int = 0
    logprobs: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    keep: str = ""
    adapter: str = ""
    grammar: tuple[str, str] | None = None
    cache_salt: str = ""
    task: str = "generate"
    items: list[tuple[bytes, int]] = []


class Attach(msgspec.Struct, frozen=True):
    """Who wants to hear the kept answer of `call` from its beginning: only its own tenant may, and only all of its `choices`
    together, numbered from 0."""

    call: str
    tenant: str
    choices: int


class Refuse(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an attempt is over. `busy`: nothing was computed and another worker may take it. `gone`: the answer that was asked
    for is not kept here, the work itself may be done anywhere. Neither: the work itself was at fault (`message` says how) and
    no worker should be asked again."""

    busy: bool
    message: str
    retry_after_s: float | None = None
    gone: bool = False


LogprobRow = tuple[int, int, int, float, list[tuple[int, float]]]

_encoder = msgspec.msgpack.Encoder()
_worker_hello = msgspec.msgpack.Decoder(WorkerHello)
_gateway_hello = msgspec.msgpack.Decoder(GatewayHello)
_submit = msgspec.msgpack.Decoder(Submit)
_attach = msgspec.msgpack.Decoder(Attach)
_refuse = msgspec.msgpack.Decoder(Refuse)
_logprobs = msgspec.msgpack.Decoder(list[LogprobRow])
_gpus = msgspec.msgpack.Decoder(tuple[Gpu, ...])
_figures = msgspec.msgpack.Decoder(EngineFigures)


def frame(kind: int, payload: bytes = b"") -> bytes:
    return _HEAD.pack(len(payload) + 1, kind) + payload


def hello(body: WorkerHello | GatewayHello) -> bytes:
    return frame(HELLO, _encoder.encode(body))


def submit(handle: int, body: Submit) -> bytes:
    return frame(SUBMIT, _HANDLE.pack(handle) + _encoder.encode(body))


def attach(handle: int, body: Attach) -> bytes:
    return frame(ATTACH, _HANDLE.pack(handle) + _encoder.encode(body))


def cancel(handle: int) -> bytes:
    return frame(CANCEL, _HANDLE.pack(handle))


def detach(handle: int) -> bytes:
    return frame(DETACH, _HANDLE.pack(handle))


def ack(handle: int) -> bytes:
    return frame(ACK, _HANDLE.pack(handle))


def refuse(handle: int, body: Refuse) -> bytes:
    return frame(REFUSE, _HANDLE.pack(handle) + _encoder.encode(body))


def step(load: Load, rows: bytes) -> bytes:
    """`rows` is a concatenation of ROW.pack(handle, choice, finish, index, token)."""
    return frame(STEP, _packed(load) + rows)


def beat(load: Load) -> bytes:
    return frame(BEAT, _packed(load))


def logprobs(rows: list[LogprobRow]) -> bytes:
    return frame(LOGPROBS, _encoder.encode(rows))


def drain() -> bytes:
    return frame(DRAIN)


def cached(rows: Sequence[tuple[int, int]]) -> bytes:
    """`rows`: (handle, tokens)."""
    return frame(CACHED, b"".join([_PAIR.pack(*row) for row in rows]))


def result(handle: int, choice: int, data: bytes) -> bytes:
    return frame(RESULT, _PAIR.pack(handle, choice) + data)


def figures(found: EngineFigures) -> bytes:
    return frame(FIGURES, _encoder.encode(found))


def gpus(found: Sequence[Gpu]) -> bytes:
    return frame(GPUS, _encoder.encode(found))


def _packed(load: Load) -> bytes:
    return _LOAD.pack(load.running, load.waiting, load.tokens, load.seen, load.steps, load.cpu, load.memory, load.gpu)


def read_load(payload: memoryview | bytes) -> Load:
    running, waiting, tokens, seen, steps, cpu, memory, gpu = _LOAD.unpack_from(payload)
    return Load(running, waiting, tokens, seen, cpu, memory, gpu, steps)


def read_rows(payload: memoryview | bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """(handle, choice, finish, index, token) of a STEP payload."""
    return ROW.iter_unpack(payload[_LOAD.size :])


def read_cached(payload: memoryview | bytes) -> Iterator[tuple[int, int]]:
    """(handle, tokens) of a CACHED payload."""
    return _PAIR.iter_unpack(payload)


def read_result(payload: memoryview | bytes) -> tuple[int, int, bytes]:
    """(handle, choice, floats) of a RESULT payload."""
    handle, choice = _PAIR.unpack_from(payload)
    data = bytes(payload[_PAIR.size :])
    if len(data) % FLOAT_BYTES:
        raise FrameError(f"a result of {len(data)} bytes, which is not a number of floats")
    return handle, choice, data


def read_handle(payload: memoryview | bytes) -> int:
    handle: int = _HANDLE.unpack_from(payload)[0]
    return handle


def read_worker_hello(payload: memoryview | bytes) -> WorkerHello:
    return _worker_hello.decode(payload)


def read_gateway_hello(payload: memoryview | bytes) -> GatewayHello:
    return _gateway_hello.decode(payload)


def read_submit(payload: memoryview | bytes) -> Submit:
    return _submit.decode(payload[_HANDLE.size :])


def read_attach(payload: memoryview | bytes) -> Attach:
    return _attach.decode(payload[_HANDLE.size :])


def read_refuse(payload: memoryview | bytes) -> Refuse:
    return _refuse.decode(payload[_HANDLE.size :])


def read_logprobs(payload: memoryview | bytes) -> list[LogprobRow]:
    return _logprobs.decode(payload)


def read_figures(payload: memoryview | bytes) -> EngineFigures:
    return _figures.decode(payload)


def read_gpus(payload: memoryview | bytes) -> tuple[Gpu, ...]:
    return _gpus.decode(payload)


class Splitter:
    """Bytes as they come in, (kind, payload) as they are whole. A payload is valid until the next `feed`."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, memoryview]]:
        """All frames that `data` completes. Raises FrameError for a length or a kind that cannot be ours."""
        if self._rest:
            data = self._rest + data
        view = memoryview(data)
        frames, at, size = [], 0, len(data)
        while size - at >= HEAD_BYTES:
            length, kind = _HEAD.unpack_from(data, at)
            if kind not in KINDS or not 1 <= length <= FRAME_BYTES_MAX:
                raise FrameError(f"not a frame: kind {kind}, length {length} (1 … {FRAME_BYTES_MAX})")
            end = at + 4 + length
            if end > size:
                break
            frames.append((kind, view[at + HEAD_BYTES : end]))
            at = end
        self._rest = data[at:] if at else data
        return frames
