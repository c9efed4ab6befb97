"""Port Journal in the shared store. Every key has a time to live, so nothing has to be cleaned up.

| key | type | holds |
|---|---|---|
| `cordee:call:{ID}` | hash | the call, its replica, what was charged, its answer |
| `cordee:key:{TENANT}:KEY` | string | digest of the request and id of the call that an idempotency key stands for |
| `cordee:keys:{TENANT}` | sorted set | those keys by the time they are forgotten, to count them |
| `cordee:owner:{OWNER}` | string | exists while the life of a gateway lasts |
| `cordee:receipts:{BLOCK}` | string | receipts of calls whose ids begin alike, one after another, as they were written |

Names of tenants and keys of clients are hashed: they may be long, and hold anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec

from cordee.adapters.redis.store import Store
from cordee.domain.kept import (
    Conflict,
    Found,
    Fresh,
    Full,
    KeptBytes,
    KeptCall,
    KeptTokens,
    Receipt,
    Reservation,
    Same,
)
from cordee.ports import AwayError

BLOCK_CHARS = 20  # of an id: the gateway's life, and its calls in blocks of 256
CALL, REPLICA, CHARGED, TOKENS, BYTES, NOTHING = b"call", b"replica", b"charged", b"tokens", b"bytes", b"nothing"
ACCOUNTANT = b"accountant"
FULL = b"full"

# Counting and taking are one step, so that no two gateways take the same key, and none takes more than there may be.
RESERVE = b"""
local held = redis.call('GET', KEYS[1])
if held then return held end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then return 'full' end
redis.call('ZADD', KEYS[2], now + ARGV[2], KEYS[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""
RELEASE = b"""
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, -#ARGV[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], KEYS[1])
end
return false
"""
# A call that is not remembered must not come into being by a remark about it: it would have no end.
NOTE = b"""
if redis.call('EXISTS', KEYS[1]) == 1 then
  for at = 1, #ARGV, 2 do
    local value = ARGV[at + 1]
    if ARGV[at] == 'charged' then
      value = math.max(tonumber(value), tonumber(redis.call('HGET', KEYS[1], 'charged') or 0))
      redis.call('HSET', KEYS[1], 'accountant', '')
    end
    redis.call('HSET', KEYS[1], ARGV[at], value)
  end
end
return false
"""
# One of all who come back for a call accounts for it: whoever saw the last accountant and is first.
ADOPT = b"""
if redis.call('EXISTS', KEYS[1]) == 0 then return 1 end
if redis.call('HGET', KEYS[1], 'accountant') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'accountant', ARGV[2])
return 1
"""
COMPLETE = b"""
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return false
"""

_encode = msgspec.msgpack.Encoder().encode
_call = msgspec.msgpack.Decoder(KeptCall)
_tokens = msgspec.msgpack.Decoder(KeptTokens)
_bytes = msgspec.msgpack.Decoder(KeptBytes)


class StoreJournal:
    """`keys_max`: of one tenant."""

    def __init__(self, store: Store, keys_max: int) -> None:
        self._store = store
        self._keys_max = keys_max

    async def reserve(self, tenant: str, key: str, digest: str, call_id: str, keep_s: float) -> Reservation:
        value = f"{digest} {call_id}".encode()
        names = _key_names(tenant, key)
        held = await self._store.run(b"EVAL", RESERVE, 2, *names, value, _ms(keep_s), self._keys_max)
        if held is None:
            return Fresh()
        if held == FULL:
            return Full()
        theirs, _, id = _text(held).partition(" ")
        return Same(id) if theirs == digest else Conflict()

    async def release(self, tenant: str, key: str, call_id: str) -> None:
        await self._store.run(b"EVAL", RELEASE, 2, *_key_names(tenant, key), f" {call_id}".encode())

    async def begin(self, call: KeptCall, keep_s: float) -> None:
        name = _call_name(call.id)
        written = self._store.run(b"HSET", name, CALL, _encode(call), ACCOUNTANT, call.owner.encode())
        await self._store.both(written, self._store.run(b"PEXPIRE", name, _ms(keep_s)))

    async def note(self, call_id: str, replica: str | None = None, charged: int | None = None) -> None:
        said: list[bytes | int] = []
        if replica is not None:
            said += (REPLICA, replica.encode())
        if charged is not None:
            said += (CHARGED, charged)
        if said:
            await self._store.run(b"EVAL", NOTE, 1, _call_name(call_id), *said)

    async def adopt(self, call_id: str, seen: str, owner: str) -> bool:
        return bool(await self._store.run(b"EVAL", ADOPT, 1, _call_name(call_id), seen.encode(), owner.encode()))

    async def complete(self, call_id: str, answer: KeptTokens | KeptBytes | None, keep_s: float) -> None:
        kind = NOTHING if answer is None else TOKENS if isinstance(answer, KeptTokens) else BYTES
        value = b"" if answer is None else _encode(answer)
        await self._store.run(b"EVAL", COMPLETE, 1, _call_name(call_id), kind, value, _ms(keep_s))

    async def forget(self, call_id: str) -> None:
        await self._store.run(b"DEL", _call_name(call_id))

    async def find(self, call_id: str) -> Found | None:
        pairs = await self._store.run(b"HGETALL", _call_name(call_id))
        fields = _fields(pairs)
        if CALL not in fields:
            return None
        try:
            call = _call.decode(fields[CALL])
            answer: KeptTokens | KeptBytes | None = None
            if TOKENS in fields:
                answer = _tokens.decode(fields[TOKENS])
            elif BYTES in fields:
                answer = _bytes.decode(fields[BYTES])
            charged = int(fields[CHARGED]) if CHARGED in fields else None
        except (msgspec.MsgspecError, ValueError) as error:
            raise AwayError(f"what the store holds of a call cannot be read: {error}") from error
        if call.id != call_id:
            raise AwayError("the store gave another call than the one that was asked for")
        is_owned = is_accounted = bool(await self._store.run(b"EXISTS", _owner_name(call.owner)))
        accountant = _text(fields.get(ACCOUNTANT, b""))
        if accountant != call.owner:
            is_accounted = bool(accountant) and bool(await self._store.run(b"EXISTS", _owner_name(accountant)))
        replica = _text(fields.get(REPLICA, b""))
        return Found(call, replica, charged, answer, is_owned, accountant, is_accounted)

    async def alive(self, owner: str, for_s: float) -> None:
        await self._store.run(b"SET", _owner_name(owner), b"1", b"PX", _ms(for_s))

    async def add_receipts(self, receipts: Sequence[Receipt], keep_s: float) -> None:
        blocks: dict[str, bytearray] = {}
        for receipt in receipts:
            written = _encode(receipt)
            blocks.setdefault(receipt.id[:BLOCK_CHARS], bytearray()).extend(
                len(written).to_bytes(LENGTH_BYTES, "big") + written
            )
        for block, data in blocks.items():
            name = _block_name(block)
            await self._store.both(
                self._store.run(b"APPEND", name, bytes(data)), self._store.run(b"PEXPIRE", name, _ms(keep_s))
            )

    async def receipts(self, call_id: str) -> Sequence[Receipt]:
        data = await self._store.run(b"GET", _block_name(call_id[:BLOCK_CHARS]))
        if data is None:
            return ()
        found, at, wanted = [], 0, call_id.encode()
        try:
            while at < len(data):
                end = at + LENGTH_BYTES + int.from_bytes(data[at : at + LENGTH_BYTES], "big")
                written = data[at + LENGTH_BYTES : end]
                if wanted in written:  # most are of other calls, and need not be read
                    receipt = msgspec.msgpack.decode(written, type=Receipt)
                    if receipt.id == call_id:
                        found.append(receipt)
                at = end
        except (msgspec.MsgspecError, TypeError) as error:
            raise AwayError(f"what the store holds of a receipt cannot be read: {error}") from error
        return tuple(found)


LENGTH_BYTES = 4  # before each receipt


def _hashed(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]


def _key_names(tenant: str, key: str) -> tuple[bytes, bytes]:
    tag = _hashed(tenant)
    return f"cordee:key:{{{tag}}}:{_hashed(key)}".encode(), f"cordee:keys:{{{tag}}}".encode()


def _call_name(call_id: str) -> bytes:
    return f"cordee:call:{{{call_id}}}".encode()


def _owner_name(owner: str) -> bytes:
    return f"cordee:owner:{{{owner}}}".encode()


def _block_name(block: str) -> bytes:
    return f"cordee:receipts:{{{block}}}".encode()


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _text(value: Any) -> str:
    try:
        return bytes(value).decode()
    except (TypeError, ValueError) as error:
        raise AwayError("the store replied what no store of ours does") from error


def _fields(reply: Any) -> dict[bytes, bytes]:
    """A hash, as the client or the protocol gives it."""
    if isinstance(reply, dict):
        return reply
    if isinstance(reply, list) and len(reply) % 2 == 0:
        return dict(zip(reply[::2], reply[1::2], strict=True))
    raise AwayError("the store replied what no store of ours does")
