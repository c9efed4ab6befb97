"""A provider that answers whatever a test wants, honest unless told otherwise."""

from __future__ import annotations

import base64
import hmac
import json
import warnings
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

ISSUER = "https://idp.example"
CLIENT = "cordee-client"
Key = RSAKey | ECKey | OKPKey | OctKey


class Double:
    """`claims`, `head`, `described` and `answer` are mixed into what is honest; `keys` are published, the first one signs."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.keys: list[Key] = [ECKey.generate_key("P-256", {"alg": "ES256", "use": "sig"}, auto_kid=True)]
        self.signer: Key | None = None
        self.algorithm = "ES256"
        self.claims: dict[str, Any] = {}
        self.head: dict[str, Any] = {}
        self.described: dict[str, Any] = {}
        self.token: str | None = None
        self.asked: list[httpx.Request] = []
        self.answer: Callable[[httpx.Request], httpx.Response] | None = None
        self.nonce = ""
        self.challenge = ""

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answered)

    def sign_in(self, left_for: str) -> dict[str, str]:
        """What a person brings back who was sent to `left_for`."""
        query = dict(parse_qsl(urlsplit(left_for).query))
        self.nonce, self.challenge = query["nonce"], query["code_challenge"]
        return {"state": query["state"], "code": "c", "iss": ISSUER}

    def paths(self) -> list[str]:
        return [request.url.path for request in self.asked]

    def _answered(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        said = self._honest(request) if self.answer is None else self.answer(request)
        # As from a network: with a body that is yet to be read.
        return httpx.Response(said.status_code, headers=said.headers, stream=httpx.ByteStream(said.content))

    def _honest(self, request: httpx.Request) -> httpx.Response:
        match request.url.path:
            case "/.well-known/openid-configuration":
                plain = {"issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/auth", "token_endpoint": f"{ISSUER}/token",
                         "jwks_uri": f"{ISSUER}/keys", "authorization_response_iss_parameter_supported": True}  # fmt: skip
                return httpx.Response(200, json=plain | self.described)
            case "/keys":
                return httpx.Response(200, json={"keys": [key.as_dict(private=False) for key in self.keys]})
            case _:
                return httpx.Response(200, json={"id_token": self.token or self._signed(), "access_token": "x"})

    def _signed(self) -> str:
        now = int(self.now())
        claims = {"iss": ISSUER, "aud": CLIENT, "sub": "s-1", "iat": now, "exp": now + 300, "nonce": self.nonce,
                  "email": "Grace@Example.com", "email_verified": True, "name": "Grace"} | self.claims  # fmt: skip
        key = self.signer or self.keys[0]
        head = {"alg": self.algorithm, "kid": key.kid} | self.head
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kept = {name: value for name, value in claims.items() if value is not None}
            return jwt.encode(head, kept, key, algorithms=[self.algorithm])


def form_of(request: httpx.Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(request.content.decode()).items()}


def by_hand(head: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes] = lambda _said: b"") -> str:
    """A token as no library would write it; without a signature unless `sign` makes one."""
    said = ".".join(_written(json.dumps(part).encode()) for part in (head, claims))
    return f"{said}.{_written(sign(said.encode()))}"


def hmac_with(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda said: hmac.digest(secret, said, "sha256")


def es256_with(key: Key) -> Callable[[bytes], bytes]:
    return lambda said: JWSRegistry.algorithms["ES256"].sign(said, key)


def _written(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()
