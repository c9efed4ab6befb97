"""What is shown as a token and is none: reliability, section 3 C, rows 31 to 34, 36 and 42, at a gateway."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from cordee.adapters.credentials import Credentials
from cordee.adapters.keys import FileDirectory
from cordee.wire.credentials import Ended, Key, Page, Principal, SigningKey

NOW = 1_800_000_000.0
ISSUER, AUDIENCE = "https://models.example", "cordee"
SIGNER, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
PUBLIC = SIGNER.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
HEADER: dict[str, Any] = {"alg": "EdDSA", "typ": "at+jwt", "kid": "k1"}
CLAIMS: dict[str, Any] = {
    "iss": ISSUER, "aud": AUDIENCE, "sub": "user_1", "tenant": "tenant_1", "client_id": "cordee", "scope": "inference chats.read",
    "iat": int(NOW) - 10, "exp": int(NOW) + 600, "jti": "j", "sid": "family_1", "role": "user",
}  # fmt: skip
KEY = "sk-cordee-" + "k" * 43


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(header: Any = None, claims: Any = None, key: Ed25519PrivateKey = SIGNER, **changed: Any) -> bytes:
    body = claims if isinstance(claims, bytes) else json.dumps({**CLAIMS, **changed}).encode()
    head = header if isinstance(header, bytes) else json.dumps({**HEADER, **(header or {})}).encode()
    signed = f"{text(head)}.{text(body)}"
    return f"{signed}.{text(key.sign(signed.encode()))}".encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in CLAIMS.items() if key != name}).encode()


class Wall:
    now = NOW


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def credentials(tmp_path: Path, wall: Wall) -> Credentials:
    made = Credentials(FileDirectory(tmp_path, {}), 16, lambda: wall.now)
    made.known.take(
        Page(
            "e", 0, 1, ISSUER, AUDIENCE, 1, signing_keys=[SigningKey("k1", text(PUBLIC))],
            keys=[Key("key_1", hashlib.sha256(KEY.encode()).hexdigest(), "tenant_1", "user_1", ["inference"])],
            principals=[Principal("user_1", "tenant_1", ["inference"], "m")],
        ),
        NOW,
    )  # fmt: skip
    return made


def test_a_token_means_its_user_with_what_both_hold(credentials: Credentials):
    caller = credentials.identify(token())
    assert caller is not None
    assert (caller.key_id, caller.subject, caller.tenant) == ("user_1", "user_1", "tenant_1")
    assert caller.scopes == {"inference"}
    assert credentials.identify(token()) is not None


HS256 = f"{text(json.dumps({**HEADER, 'alg': 'HS256'}).encode())}.{text(json.dumps(CLAIMS).encode())}"
NONE = f"{text(json.dumps({**HEADER, 'alg': 'none'}).encode())}.{text(json.dumps(CLAIMS).encode())}."
GOOD = token().decode()
ATTACKS: dict[str, bytes] = {
    **{f"alg {alg}": token({"alg": alg}) for alg in ("none", "None", "nOnE", "HS256", "RS256", "Ed25519", "", None)},
    "no signature": NONE.encode(),
    "HS256 with the public key": f"{HS256}.{text(hmac.digest(PUBLIC, HS256.encode(), hashlib.sha256))}".encode(),
    "another's signature": token(key=OTHER),
    **{f"kid {kid!r}": token({"kid": kid}) for kid in ("../../dev/null", "' OR 1=1 --", "http://evil/", "", None, "k1\x00", 1)},
    "own jwk": token({"jwk": {"kty": "OKP", "crv": "Ed25519", "x": text(PUBLIC)}}, key=OTHER),
    "jku": token({"jku": "https://evil/jwks"}), "x5u": token({"x5u": "https://evil/x"}), "crit": token({"crit": ["exp"]}),
    "compressed": token({"zip": "DEF"}), "b64": token({"b64": False}),
    "no typ": token(json.dumps({"alg": "EdDSA", "kid": "k1"}).encode()), "an identity token": token({"typ": "JWT"}),
    "expired": token(exp=int(NOW)), "not yet": token(nbf=int(NOW) + 60), "made later": token(iat=int(NOW) + 60),
    "another issuer": token(iss="https://evil.example"), "another audience": token(aud="other"),
    "audiences": token(aud=[AUDIENCE]),
    **{f"without {name}": token(claims=without(name)) for name in ("exp", "iat", "iss", "aud", "sub", "tenant", "scope")},
    **{f"exp {value!r}": token(exp=value) for value in ("9999999999", 1.5e9 + 0.5, None, True, -1)},
    "exp 1e400": token(claims=json.dumps(CLAIMS).replace(str(CLAIMS["exp"]), "1e400").encode()),
    "a list": token(claims=b"[]"), "no JSON": token(claims=b"{"), "header no JSON": token(b"{"),
    "another tenant": token(tenant="tenant_2"), "nobody": token(sub="user_2"),
    "too long": token(more="x" * 5000), "empty parts": b"eyJ..", "one part": b"eyJ", "JWE": b".".join([GOOD.encode(), b"a", b"b"]),
    "padding": GOOD.encode() + b"=", "space": GOOD.encode() + b" ", "newline": GOOD.encode() + b"\n",
    "standard alphabet": token(sub="user_1>>>???").replace(b"-", b"+").replace(b"_", b"/") + b"+",
    "nul": b"eyJ\x00.\x00.\x00", "not ASCII": "eyJé.é.é".encode(), "a million": b"eyJ" * 400_000,
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_no_token_of_ours_is_nobodys(credentials: Credentials, name: str):
    assert credentials.identify(ATTACKS[name]) is None
    assert not credentials._tokens or name in ("another tenant", "nobody"), (
        "nothing is remembered of what is not signed"
    )
    assert credentials.identify(token()) is not None


def test_ten_thousand_unknown_key_ids_displace_nobody_and_are_not_remembered(credentials: Credentials):
    mine = token()
    assert credentials.identify(mine) is not None
    for number in range(10_000):
        assert (
            credentials.identify(f"{text(json.dumps({**HEADER, 'kid': str(number)}).encode())}.e30.e30".encode())
            is None
        )
    assert len(credentials._tokens) == 1
    assert credentials.identify(mine) is not None


@given(at=st.integers(0, len(GOOD) - 1), into=st.sampled_from("Aa0-_.="))
def test_no_other_token_is_taken_for_a_remembered_one(at: int, into: str):
    credentials = Credentials(FileDirectory(Path("/nonexistent"), {}), 16, lambda: NOW)
    credentials.known.take(
        Page("e", 0, 1, ISSUER, AUDIENCE, 1, signing_keys=[SigningKey("k1", text(PUBLIC))],
             principals=[Principal("user_1", "tenant_1", ["inference"], "m")]), NOW,
    )  # fmt: skip
    assert credentials.identify(GOOD.encode()) is not None
    changed = GOOD[:at] + into + GOOD[at + 1 :]
    assert (credentials.identify(changed.encode()) is not None) == (changed == GOOD)


def test_a_remembered_token_ends_with_its_time_its_signing_in_and_its_signing_key(credentials: Credentials, wall: Wall):
    mine = token()
    assert credentials.identify(mine) is not None
    wall.now = NOW + 600
    assert credentials.identify(mine) is None
    wall.now = NOW
    assert credentials.identify(mine) is not None
    credentials.known.take(Page("e", 1, 2, ISSUER, AUDIENCE, 2, signing_keys=[]), NOW)
    assert credentials.identify(mine) is None
    credentials.known.take(Page("e", 2, 3, ISSUER, AUDIENCE, 3, signing_keys=[SigningKey("k1", text(PUBLIC))]), NOW)
    assert credentials.identify(mine) is not None
    page = Page(
        "e",
        3,
        4,
        ISSUER,
        AUDIENCE,
        4,
        signing_keys=[SigningKey("k1", text(PUBLIC))],
        ended=[Ended("family_1", NOW + 600)],
    )
    credentials.known.take(page, NOW)
    assert credentials.identify(mine) is None


def test_no_more_tokens_are_remembered_than_there_is_room_for(credentials: Credentials):
    for number in range(40):
        assert credentials.identify(token(jti=str(number))) is not None
    assert len(credentials._tokens) == 16


STRANGE = [
    KEY[:-1], KEY + "k", KEY.upper(), "sk-cordee-", "sk-cordee-' OR '1'='1", "sk-cordee-\x00", "sk-cordee-" + "x" * 1_000_000,
    KEY.replace("k", "\u043a"), "sk-cordee-\ud800", "", "Bearer",
]  # fmt: skip


@pytest.mark.parametrize("shown", STRANGE, ids=range(len(STRANGE)))
def test_what_is_no_key_is_nobodys(credentials: Credentials, shown: str):
    assert credentials.identify(KEY.encode()) is not None
    assert credentials.identify(shown.encode("utf-8", "surrogatepass")) is None
