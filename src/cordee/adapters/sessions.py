"""Port Sessions over the data directory: the secrets that sign cookies, and the sessions that were ended early.

Every gateway of the host reads the same two files, so any of them serves any session. Secrets rotate: the newest signs, the older
ones verify for as long as a cookie signed with them may live. A new secret signs only when it has lain there for a few seconds, so
that no gateway is shown a signature whose secret it has not read yet.

The bound across hosts that do not share the directory: a session that was ended goes on elsewhere until it expires.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
from itertools import pairwise
from pathlib import Path

import msgspec
from itsdangerous import BadSignature, Signer
from msgspec import Struct

from cordee.adapters.durable import directory, locked, replace
from cordee.adapters.keyring import FileState, file_state
from cordee.policy.session import Ended, Session, SessionRules, SignIn

SECRETS_FILE, ENDED_FILE = "session.keys", "sessions.ended"
SECRET_BYTES = 32
ADOPT_S = 5.0  # several looks of the slowest gateway
FILE_BYTES_MAX = 64 * 1024 * 1024
TOKEN_BYTES_MAX = 2048

_LOCK_FILE = "sessions.lock"
_FORMAT = 1
_PERSONS = b'["sign-in",'
_log = logging.getLogger(__name__)


class SessionsError(Exception):
    """The files cannot be read or written; the message says which, why, and what to do."""


class _Secret(Struct, frozen=True, forbid_unknown_fields=True):
    made_s: float
    secret: str


class _OfPerson(Struct, frozen=True, array_like=True, tag="sign-in"):
    """What the cookie of a person who signed in holds. That of a key is five fields without a word before them, and is read by versions
    that know of no others; no id of a session is that word."""

    id: str
    user: str
    mark: str
    began_s: float
    issued_s: float
    sign_in: str
    scopes: list[str]
    until_s: float


class _Secrets(Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    secrets: list[_Secret]


class _Ends(Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    keys: dict[str, tuple[float, dict[str, float]]]


class FileSessions:
    """Port Sessions. `refresh` about once a second, by its owner."""

    def __init__(self, data: Path, rules: SessionRules, rotate_s: float, now: float) -> None:
        """Makes the first secret where there is none. Raises SessionsError."""
        self._data = data
        self._states: tuple[FileState | None, FileState | None] | None = None
        self._secrets: list[_Secret] = []
        self._ended = Ended()
        self._complained = False
        self.follow(rules, rotate_s)
        self._rotate(now)
        self._read()
        self._make_signers(now)

    def follow(self, rules: SessionRules, rotate_s: float) -> None:
        """From now on by these."""
        self.rules = rules
        self._rotate_s = rotate_s

    # -- port Sessions

    def seal(self, session: Session) -> bytes:
        return self._cookies.sign(base64.urlsafe_b64encode(_content(session)))

    def unseal(self, token: bytes) -> Session | None:
        if len(token) > TOKEN_BYTES_MAX:
            return None
        try:
            return _session(base64.urlsafe_b64decode(self._cookies.unsign(token)))
        except (BadSignature, ValueError):
            return None

    def token_of(self, session: Session) -> bytes:
        return self._tokens.get_signature(session.id)

    def is_token_of(self, session: Session, token: bytes) -> bool:
        return self._tokens.verify_signature(session.id, token)

    def has_ended(self, session: Session) -> bool:
        return self._ended.has(session)

    def end(self, session: Session, now: float) -> None:
        try:
            with locked(directory(self._data) / _LOCK_FILE):
                ended = self._read_ended()
                ended.end(session, now, self.rules)
                ended.forget_expired(now, self.rules)
                replace(self._data / ENDED_FILE, msgspec.json.encode(_Ends(_FORMAT, ended.written())))
                self._ended = ended
        except OSError as error:
            raise SessionsError(
                f"{self._data / ENDED_FILE}: cannot be written: {error.strerror}; the session goes on until it expires."
            ) from error

    # -- by its owner

    def refresh(self, now: float) -> None:
        """Rotate what is due and read what others have changed. What is broken now changes nothing, and is said once."""
        try:
            if not self._secrets or now - self._secrets[-1].made_s >= self._rotate_s:
                self._rotate(now)
            if self._look() != self._states:
                self._read()
            self._make_signers(now)
            self._complained = False
        except SessionsError as error:
            if not self._complained:
                self._complained = True
                _log.error("sessions were not read again, the known ones stay in force: %s", error)

    def _rotate(self, now: float) -> None:
        """Make a secret if the newest is too old, and drop those whose cookies have all expired."""
        path = self._data / SECRETS_FILE
        try:
            with locked(directory(self._data) / _LOCK_FILE):
                held = self._read_secrets()
                if held and now - held[-1].made_s < self._rotate_s:
                    return
                lifetime_s = self.rules.lifetime_s + ADOPT_S
                # A secret signs until the next one is adopted, and what it signed then lives for a lifetime.
                kept = [one for one, after in pairwise(held) if now - after.made_s < lifetime_s]
                fresh = _Secret(now, secrets.token_hex(SECRET_BYTES))
                replace(path, msgspec.json.encode(_Secrets(_FORMAT, [*kept, *held[-1:], fresh])))
        except OSError as error:
            raise SessionsError(
                f"{path}: cannot be written: {error.strerror}; free space or fix the owner of {self._data}."
            ) from error

    def _read(self) -> None:
        states = self._look()  # before reading: a change between the two is then seen at the next refresh
        secrets_held, ended = self._read_secrets(), self._read_ended()
        self._states, self._secrets, self._ended = states, secrets_held, ended

    def _make_signers(self, now: float) -> None:
        adopted = [one for one in self._secrets if now - one.made_s >= ADOPT_S]
        waiting = [one for one in self._secrets if now - one.made_s < ADOPT_S]
        # The last one signs, all verify; while there is no older one the newest signs at once.
        order = [bytes.fromhex(one.secret) for one in (*waiting, *adopted)]
        self._cookies = _signer(order, b"cordee.session")
        self._tokens = _signer(order, b"cordee.session.csrf")

    def _look(self) -> tuple[FileState | None, FileState | None]:
        try:
            return file_state(self._data / SECRETS_FILE), file_state(self._data / ENDED_FILE)
        except OSError as error:
            raise SessionsError(f"{self._data}: cannot be looked into: {error.strerror}; run as its owner.") from error

    def _read_secrets(self) -> list[_Secret]:
        raw = _read(self._data / SECRETS_FILE)
        if raw is None:
            return []
        try:
            found = msgspec.json.decode(raw, type=_Secrets).secrets
            for one in found:
                bytes.fromhex(one.secret)
        except ValueError as error:  # without the cause: it could quote a secret
            raise SessionsError(
                f"{self._data / SECRETS_FILE}: not a file of session secrets; move it away: all sessions end, and a new one is made."
            ) from error
        return sorted(found, key=lambda one: one.made_s)

    def _read_ended(self) -> Ended:
        raw = _read(self._data / ENDED_FILE)
        if raw is None:
            return Ended()
        try:
            return Ended.read(msgspec.json.decode(raw, type=_Ends).keys)
        except ValueError as error:
            raise SessionsError(
                f"{self._data / ENDED_FILE}: not a list of ended sessions; move it and {SECRETS_FILE} away: all sessions end."
            ) from error


def _content(session: Session) -> bytes:
    times, of = (session.began_s, session.issued_s), session.sign_in
    if of is None:
        return msgspec.json.encode((session.id, session.key_id, session.mark, *times))
    return msgspec.json.encode(
        _OfPerson(session.id, session.key_id, session.mark, *times, of.id, sorted(of.scopes), of.until_s)
    )


def _session(content: bytes) -> Session:
    """Raises ValueError."""
    if not content.startswith(_PERSONS):
        return Session(*msgspec.json.decode(content, type=tuple[str, str, str, float, float]))
    read = msgspec.json.decode(content, type=_OfPerson)
    of = SignIn(read.sign_in, frozenset(read.scopes), read.until_s)
    return Session(read.id, read.user, read.mark, read.began_s, read.issued_s, of)


def _signer(order: list[bytes], salt: bytes) -> Signer:
    return Signer(order, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256)


def _read(path: Path) -> bytes | None:
    """None where there is no such file. Raises SessionsError."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SessionsError(f"{path}: cannot be read: {error.strerror}; run as its owner.") from error
    if len(raw) > FILE_BYTES_MAX:
        raise SessionsError(
            f"{path}: longer than {FILE_BYTES_MAX} bytes; move it and {SECRETS_FILE} away: all sessions end."
        )
    return raw
