"""Decides what a browser's session is worth: whether it still holds, when it is renewed, whether a request is the page's own.

Times are seconds since the epoch, because a session outlives the process that began it; `now` comes from outside.

A request that changes something and is identified by a cookie must be the page's own, or any site could make a visitor's browser
send it (OWASP, Cross-Site Request Forgery Prevention). Browsers say where a request comes from (Sec-Fetch-Site, Origin); a client
that says neither sends the token that it was given with the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from cordee.domain.record import record

SKEW_S = 60.0  # by which the clocks of two hosts may differ
RENEW_AFTER = 0.5  # of its life: often enough to keep a session alive, seldom enough to cost nothing


@dataclass(frozen=True, slots=True)
class SessionRules:
    """A session holds `lifetime_s` from its last renewal and `absolute_s` from its beginning. Of one key `ended_per_key_max` ends
    are remembered one by one."""

    lifetime_s: float
    absolute_s: float
    ended_per_key_max: int


@record
class SignIn:
    """What a person's session began with: the sign-in, the scopes of its token, and the time after which an end of that sign-in may have
    been forgotten everywhere. Fixed at the beginning, so that no change of a configuration lets a session go on for longer."""

    id: str
    scopes: frozenset[str]
    until_s: float


@record
class Session:
    """Who is signed in: the id of the key and its mark (see ports.Directory), never the key. `sign_in`: it is a person's who signed in, and
    `key_id` is the user."""

    id: str
    key_id: str
    mark: str
    began_s: float
    issued_s: float
    sign_in: SignIn | None = None


class Standing(Enum):
    HOLDS = "holds"
    RENEW = "renew"  # it holds, and its cookie is to be written anew
    OVER = "over"


def standing(session: Session, now: float, rules: SessionRules) -> Standing:
    age_s = now - session.issued_s
    if age_s < -SKEW_S or now >= expires_s(session, rules):
        return Standing.OVER
    return Standing.RENEW if age_s > rules.lifetime_s * RENEW_AFTER else Standing.HOLDS


def expires_s(session: Session, rules: SessionRules) -> float:
    expires = min(session.issued_s + rules.lifetime_s, session.began_s + rules.absolute_s)
    return expires if session.sign_in is None else min(expires, session.sign_in.until_s)


def is_own(host: bytes, fetch_site: bytes | None, origin: bytes | None, *, has_token: bool) -> bool:
    """Whether a request with a cookie comes from our own page. `has_token`: it carries the session's own token."""
    if has_token:
        return True
    if fetch_site is not None:
        return fetch_site in (b"same-origin", b"none")
    if origin is None:
        return False
    scheme, found, authority = origin.partition(b"://")
    return bool(found) and scheme in (b"http", b"https") and bool(host) and authority.lower() == host.lower()


@dataclass(slots=True)
class _OfKey:
    before_s: float = 0.0  # every session that began before this has ended
    ids: dict[str, float] = field(default_factory=dict)  # ended session → when it would have expired anyway


class Ended:
    """Sessions that were ended before their time. Bounded: of one key at most `ended_per_key_max` are held one by one; one more
    ends all sessions of that key that have begun so far. That errs on the safe side, and nobody can do it to another's key."""

    def __init__(self) -> None:
        self._keys: dict[str, _OfKey] = {}

    def has(self, session: Session) -> bool:
        of_key = self._keys.get(session.key_id)
        return of_key is not None and (session.id in of_key.ids or session.began_s < of_key.before_s)

    def end(self, session: Session, now: float, rules: SessionRules) -> None:
        of_key = self._keys.setdefault(session.key_id, _OfKey())
        of_key.ids[session.id] = expires_s(session, rules)
        if len(of_key.ids) > rules.ended_per_key_max:
            of_key.before_s = now
            of_key.ids.clear()
            of_key.ids[session.id] = expires_s(session, rules)  # it may have begun in this very moment

    def forget_expired(self, now: float, rules: SessionRules) -> None:
        for key_id, of_key in list(self._keys.items()):
            of_key.ids = {id: expires for id, expires in of_key.ids.items() if expires > now - SKEW_S}
            if not of_key.ids and of_key.before_s + rules.absolute_s < now - SKEW_S:
                del self._keys[key_id]

    def written(self) -> dict[str, tuple[float, dict[str, float]]]:
        """All of it as plain values, for `read`."""
        return {key_id: (of_key.before_s, dict(of_key.ids)) for key_id, of_key in self._keys.items()}

    @classmethod
    def read(cls, written: Mapping[str, tuple[float, Mapping[str, float]]]) -> Ended:
        ended = cls()
        ended._keys = {key_id: _OfKey(before_s, dict(ids)) for key_id, (before_s, ids) in written.items()}
        return ended
