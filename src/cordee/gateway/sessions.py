"""Browsers at the web gateways: a key or a sign-in is exchanged once for a cookie, and the cookie says who asks from then on.

The cookie holds the id of the key, or the user, the sign-in and its scopes, and no state of any gateway, so every gateway serves every
session. What a request may is looked up by those each second anew: a revoked key ends its sessions within a second, the end of a sign-in
those of it as soon as the gateway hears.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

import msgspec

from cordee.domain.caller import Caller
from cordee.domain.outcome import Why
from cordee.gateway.paths import Paths
from cordee.gateway.replies import JSON, refusal
from cordee.http.exchange import Answer, Exchange
from cordee.http.request import Request
from cordee.policy.session import Session, SessionRules, Standing, expires_s, is_own, standing
from cordee.ports import People, Sessions
from cordee.wire.errors import Invalid

log = logging.getLogger(__name__)

PATH = b"/v1/sessions"
SECURE_COOKIE, PLAIN_COOKIE = b"__Host-cordee", b"cordee-session"
KEY_HEADERS = frozenset({b"authorization", b"x-api-key", b"api-key"})
READING = frozenset({b"GET", b"HEAD"})
ID_BYTES = 16
KNOWN_MAX = 1024  # cookies whose signature was checked, remembered for at most a second
CSRF_HEADER = b"x-csrf-token"
NO_SESSION = "this session has ended or never was: begin another one with POST /v1/sessions and an API key or the token of a sign-in"
NOT_A_PERSONS = "a session begins with an API key, or with the access token of a person who signed in here, not with an application's"
NOT_YET = "sessions of sign-ins begin when accounts have been heard at this gateway; ask again in a second"
NOT_OWN = (
    "a request with a cookie that changes something must come from a page of this host, or carry the session's token in the "
    "header X-CSRF-Token"
)


class _Shown(msgspec.Struct, omit_defaults=True):
    """A session as it is told to its owner. `key` is the user of a session that has a `sign_in`."""

    object: str
    id: str
    key: str
    tenant: str
    created: int
    expires_at: int
    csrf_token: str
    sign_in: str = ""
    scopes: list[str] = []


class BrowserSessions:
    """`rules` may be replaced while it runs. `presented`: the key that a request shows. `wall` is the time of day in seconds since the
    epoch."""

    def __init__(
        self, store: Sessions, people: People, rules: SessionRules, presented: Callable[[Request], bytes | Answer],
        wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.rules = rules
        self._store = store
        self._people = people
        self._presented = presented
        self._wall = wall
        self._known: dict[bytes, tuple[Session, Caller, Standing]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add_to(self, paths: Paths) -> None:
        paths.add(b"POST", PATH, self._create)
        paths.add(b"GET", PATH, self._show)
        paths.add(b"DELETE", PATH, self._end)

    def forget(self) -> None:
        """Look at everything anew: called every second, and when keys or ended sessions have changed."""
        self._known.clear()

    # -- for the front door

    def identify(self, request: Request) -> Caller | Answer | None:
        """Who asks, by the cookie; None where there is none of ours, an Answer where it is no good."""
        token = _cookie(request)
        if isinstance(token, Answer) or token is None:
            return token
        found = self._known.get(token) or self._look(token)
        if found is None:
            return refusal(401, NO_SESSION, code=Why.BAD_KEY.value)
        session, caller, _ = found
        headers = request.headers
        if request.method not in READING and not is_own(
            headers.get(b"host", b""), headers.get(b"sec-fetch-site"), headers.get(b"origin"),
            has_token=CSRF_HEADER in headers and self._store.is_token_of(session, headers[CSRF_HEADER]),
        ):  # fmt: skip
            return refusal(403, NOT_OWN, code="cross_site_request")
        return caller

    def person(self, request: Request) -> Caller | Answer | None:
        """Like `identify`, and None for a session of a key, too: for where a cookie counts only if a person signed in for it."""
        who = self.identify(request)
        token = _cookie(request)
        found = self._known.get(token) or self._look(token) if isinstance(token, bytes) else None
        return None if found is not None and found[0].sign_in is None else who

    def renewed(self, request: Request, exchange: Exchange) -> Exchange:
        """The exchange to answer on: one that also writes the cookie anew where it is time for that."""
        token = _cookie(request)
        found = self._known.get(token) if isinstance(token, bytes) else None
        if found is None or found[2] is not Standing.RENEW or request.path == PATH:
            return exchange
        fresh = self._again(found[0])
        return exchange.with_headers(request, self._cookie_line(fresh, request) + self._token_line(fresh))

    def _look(self, token: bytes) -> tuple[Session, Caller, Standing] | None:
        session = self._store.unseal(token)
        if session is None or self._store.has_ended(session):
            return None
        stands = standing(session, self._wall(), self.rules)
        holder = self._holder(session) if stands is not Standing.OVER else None
        if holder is None or holder[1] != session.mark:
            return None
        found = session, holder[0], stands
        if len(self._known) < KNOWN_MAX:
            self._known[token] = found
        return found

    def _holder(self, session: Session) -> tuple[Caller, str] | None:
        if session.sign_in is not None:
            return self._people.signed_in(session.key_id, session.sign_in, session.began_s)
        holder = self._people.holder(session.key_id)
        return holder if holder is not None and holder[0].grant else None  # without one it is no key's

    # -- the paths

    def _create(self, request: Request, exchange: Exchange, caller: Caller | None) -> None:
        assert caller is not None
        if KEY_HEADERS.isdisjoint(request.headers):
            raise Invalid("a session begins with an API key or a sign-in, not with another session", "Authorization")
        session = self._begun(caller, self._presented(request))
        self._answer(201, session, caller, request, exchange)

    def _begun(self, caller: Caller, key: bytes | Answer) -> Session:
        """Raises Invalid."""
        now = self._wall()
        sign_in = self._people.sign_in(key, caller.scopes, now) if isinstance(key, bytes) else None
        if sign_in is not None and sign_in.until_s <= now:
            raise Invalid(NOT_YET, status=503)
        holder = (
            self._people.holder(caller.key_id)
            if sign_in is None
            else self._people.signed_in(caller.key_id, sign_in, now)
        )
        if holder is None:
            raise Invalid("incorrect API key provided", code=Why.BAD_KEY.value, status=401)  # it went this very moment
        if not caller.grant or holder[0].grant != caller.grant:
            raise Invalid(NOT_A_PERSONS, "Authorization")
        return Session(secrets.token_urlsafe(ID_BYTES), caller.key_id, holder[1], now, now, sign_in)

    def _show(self, request: Request, exchange: Exchange, caller: Caller | None) -> None:
        assert caller is not None
        session = self._session(request)
        stands = standing(session, self._wall(), self.rules)
        self._answer(200, self._again(session) if stands is Standing.RENEW else session, caller, request, exchange)

    def _end(self, request: Request, exchange: Exchange, caller: Caller | None) -> None:
        session = self._session(request)
        task = asyncio.get_running_loop().create_task(self._ended(session, request, exchange), name="end session")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ended(self, session: Session, request: Request, exchange: Exchange) -> None:
        try:
            await asyncio.to_thread(self._store.end, session, self._wall())
        except Exception:  # of the disk: the cookie is taken back all the same, and the session expires by itself
            log.exception("the end of a session could not be written down")
            exchange.answer(refusal(503, "the end of the session could not be written down; try again"))
            return
        self.forget()
        name, flags = _cookie_name(request), b"; Secure" if _is_secure(request) else b""
        gone = b"set-cookie: %s=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0%s\r\n" % (name, flags)
        exchange.answer(Answer(200, JSON + gone, b'{"object":"session","deleted":true}'))

    def _session(self, request: Request) -> Session:
        token = _cookie(request)
        found = self._known.get(token) or self._look(token) if isinstance(token, bytes) else None
        if found is None or not KEY_HEADERS.isdisjoint(request.headers):
            raise Invalid("this request has no session: send its cookie, and no key", status=404)
        return found[0]

    def _again(self, session: Session) -> Session:
        return Session(session.id, session.key_id, session.mark, session.began_s, self._wall(), session.sign_in)

    def _answer(self, status: int, session: Session, caller: Caller, request: Request, exchange: Exchange) -> None:
        of = session.sign_in
        shown = _Shown(
            "session", session.id, caller.key_id, caller.tenant, int(session.began_s),
            int(expires_s(session, self.rules)), self._store.token_of(session).decode("ascii"),
            "" if of is None else of.id, [] if of is None else sorted(caller.scopes),
        )  # fmt: skip
        headers = JSON + b"cache-control: no-store\r\n" + self._cookie_line(session, request)
        exchange.answer(Answer(status, headers, msgspec.json.encode(shown)))

    def _cookie_line(self, session: Session, request: Request) -> bytes:
        seconds = max(0, int(expires_s(session, self.rules) - self._wall()))
        return b"set-cookie: %s=%s; Path=/; HttpOnly; SameSite=Strict; Max-Age=%d%s\r\n" % (
            _cookie_name(request), self._store.seal(session), seconds, b"; Secure" if _is_secure(request) else b"",
        )  # fmt: skip

    def _token_line(self, session: Session) -> bytes:
        return b"x-csrf-token: %s\r\n" % self._store.token_of(session)


def _is_secure(request: Request) -> bool:
    """Whether the client came over TLS: the edge says so, and lets nobody else say it."""
    return request.headers.get(b"x-forwarded-proto") == b"https"


def _cookie_name(request: Request) -> bytes:
    return SECURE_COOKIE if _is_secure(request) else PLAIN_COOKIE


def _cookie(request: Request) -> bytes | Answer | None:
    """The value of our cookie. Two different ones are refused: which one counts would be somebody else's choice."""
    name, found = _cookie_name(request), set()
    for pair in request.headers.get(b"cookie", b"").replace(b",", b";").split(b";"):
        key, _, value = pair.strip().partition(b"=")
        if key == name and value:
            found.add(value)
    if len(found) > 1:
        return refusal(400, f"two different cookies {name.decode()} were sent; send one", "Cookie")
    return found.pop() if found else None
