"""What does it cost a gateway to know who shows a key: of the key file, of accounts, and an access token?

    .venv/bin/python -m bench.credentials [--keys 10000] [--rounds 20000]

In one process, side by side and in turns, with so many keys of each kind; a token is verified once and remembered after that. A
second figure is what the first verification costs.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.machine import write
from cordee.adapters.credentials import Credentials
from cordee.adapters.key_file import KeyFile, KeyRecord
from cordee.adapters.keys import FileDirectory
from cordee.wire.credentials import Key, Page, Principal, SigningKey

TURNS = 9
TOKENS = 200
KEY_CHECK_US_MAX = 5.0  # the target for the path of a call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        result = _measured(Path(directory), args.keys, args.rounds)
    print(json.dumps(result, indent=1))
    print(f"an accounts key costs {result['accounts_key_us'] / result['file_key_us']:.2f} times a key of the key file")
    print(
        write(
            "credentials",
            "What does it cost a gateway to know who shows a key or a token?",
            {"keys": args.keys, "rounds": args.rounds, "target_us": KEY_CHECK_US_MAX, **result},
        )
    )


def _measured(data: Path, keys: int, rounds: int) -> dict[str, float]:
    file_keys = [f"ck-{number:043d}" for number in range(keys)]
    records = [
        KeyRecord(id=f"k{n}", digest=hashlib.sha256(key.encode()).hexdigest(), tenant="t", name="n")
        for n, key in enumerate(file_keys)
    ]
    (data / "keys.json").write_bytes(msgspec.json.encode(KeyFile(1, records)))
    credentials = Credentials(FileDirectory(data, {}), TOKENS)
    own_keys = [f"sk-cordee-{number:043d}" for number in range(keys)]
    signer = Ed25519PrivateKey.generate()
    public = signer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    told = [
        Key(f"key_{n}", hashlib.sha256(key.encode()).hexdigest(), "t", "u", ["inference"])
        for n, key in enumerate(own_keys)
    ]
    page = Page(
        "e", 0, 1, "i", "a", 1, signing_keys=[SigningKey("k", _text(public))], keys=told,
        principals=[Principal("u", "t", ["inference"], "m")],
    )  # fmt: skip
    credentials.known.take(page, time.time())
    tokens = [_token(signer, number) for number in range(TOKENS)]
    began = time.perf_counter()
    assert all(credentials.identify(token) for token in tokens)
    first_us = (time.perf_counter() - began) / TOKENS * 1e6
    shown = {
        "file_key_us": [key.encode() for key in file_keys],
        "accounts_key_us": [key.encode() for key in own_keys],
        "remembered_token_us": tokens,
    }
    taken: dict[str, list[float]] = {name: [] for name in shown}
    for _ in range(TURNS):
        for name, presented in shown.items():
            taken[name].append(_per_call_us(credentials.identify, presented, rounds))
    return {name: round(statistics.median(times), 3) for name, times in taken.items()} | {
        "token_verified_us": round(first_us, 1)
    }


def _per_call_us(identify: Callable[[bytes], object], presented: list[bytes], rounds: int) -> float:
    every = [presented[n % len(presented)] for n in range(rounds)]
    began = time.perf_counter()
    for one in every:
        identify(one)
    return (time.perf_counter() - began) / rounds * 1e6


def _token(signer: Ed25519PrivateKey, number: int) -> bytes:
    now = int(time.time())
    claims = {
        "iss": "i",
        "aud": "a",
        "sub": "u",
        "tenant": "t",
        "scope": "inference",
        "iat": now,
        "exp": now + 600,
        "jti": str(number),
    }
    signed = ".".join(
        _text(json.dumps(part).encode()) for part in ({"alg": "EdDSA", "typ": "at+jwt", "kid": "k"}, claims)
    )
    return f"{signed}.{_text(signer.sign(signed.encode()))}".encode()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


if __name__ == "__main__":
    main()
