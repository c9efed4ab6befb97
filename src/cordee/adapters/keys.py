"""Whose key is this: answered from memory, and kept up with the key file by somebody else's timer.

The path of a call hashes what it was given and looks the hash up, so neither the time taken nor a difference in it says
anything about keys that exist; the final comparison is constant-time all the same. Nothing is cached for unknown keys, so a
million wrong guesses occupy no memory.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cordee.adapters.durable import OWNER_ONLY, directory, locked, replace
from cordee.adapters.key_file import mark
from cordee.adapters.keyring import (
    KEY_PREFIX,
    KEY_RANDOM_BYTES,
    KEYS_FILE,
    FileState,
    KeysError,
    digest,
    file_state,
    read_all,
)
from cordee.domain.caller import EVERY_SCOPE, Caller

ADMIN_KEY_FILE = "admin.key"
ADMIN_KEY_VARIABLE = "CORDEE_ADMIN_KEY"
KEY_CHARACTERS_MAX = 4096
_ADMIN_LOCK_FILE = "admin.lock"
_log = logging.getLogger(__name__)


def ensure_admin_key(data: Path) -> Path:
    """The file with the admin key, for its owner only; created at the first start. Raises KeysError."""
    path = data / ADMIN_KEY_FILE
    try:
        with locked(directory(data) / _ADMIN_LOCK_FILE):
            if not path.exists():
                replace(path, f"{KEY_PREFIX}{secrets.token_urlsafe(KEY_RANDOM_BYTES)}\n".encode())
            elif path.stat().st_mode & 0o777 != OWNER_ONLY:
                path.chmod(OWNER_ONLY)
    except OSError as error:
        raise KeysError(
            f"{path}: the admin key cannot be created: {error.strerror}; free space or fix the owner of {data}."
        ) from error
    _read_admin_key(path)
    return path


def admin_key(data: Path, environ: Mapping[str, str] = os.environ) -> str:
    """The admin key that counts: CORDEE_ADMIN_KEY, else the one in the data directory. Raises KeysError."""
    if chosen := environ.get(ADMIN_KEY_VARIABLE):
        return _usable(chosen, f"environment variable {ADMIN_KEY_VARIABLE}", "set another one, or none")
    return _read_admin_key(data / ADMIN_KEY_FILE)


class FileDirectory:
    """Port Directory over the data directory's keys. One thread; `refresh` about once a second, by its owner."""

    def __init__(self, data: Path, environ: Mapping[str, str] = os.environ) -> None:
        """Reads the keys. Raises KeysError when they are unreadable. Where there is no admin key (yet), nobody is admin."""
        self._data = data
        self._environ = environ
        try:
            self._states = self._look()
        except OSError as error:
            raise KeysError(
                f"{data}: cannot be looked into: {error.strerror}; run as its owner, or choose --data DIR."
            ) from error
        self._callers = self._read()
        self._holders = _by_id(self._callers)
        self._complained = False

    def identify(self, key: bytes) -> Caller | None:
        """Who owns `key`; None for nobody."""
        if len(key) > KEY_CHARACTERS_MAX:
            return None
        asked = digest(key)
        found = self._callers.get(asked)
        if found is None or not hmac.compare_digest(found[0], asked):
            return None
        return found[1]

    def holder(self, key_id: str) -> tuple[Caller, str] | None:
        """Who owns the key of this id, and a mark that another key of the same id would not have (the admin key can be changed);
        None where there is no such key (any more)."""
        return self._holders.get(key_id)

    def still(self, caller: Caller) -> Caller | None:
        """Who `caller` is now that was identified earlier; None where the key is gone, or is another one."""
        found = self._holders.get(caller.key_id)
        return found[0] if found is not None and found[1] == caller.grant else None

    def refresh(self) -> bool:
        """Read again what changed on disk; True if something was. A file that is broken now changes nothing: the keys that
        were known stay, and one line in the log says so until it is whole again."""
        try:
            states = self._look()
            if states == self._states:
                return False
            callers = self._read()
        except (KeysError, OSError) as error:
            if not self._complained:
                _log.error("keys were not reloaded, the known ones stay in force: %s", error)
                self._complained = True
            return False
        if self._complained:
            _log.info("keys are readable again: %d in force", len(callers))
        self._states, self._callers, self._complained = states, callers, False
        self._holders = _by_id(callers)
        return True

    def __len__(self) -> int:
        """How many keys there are, the admin key counted."""
        return len(self._callers)

    def _look(self) -> tuple[FileState | None, ...]:
        # Looked at before reading: a change between the two is then seen at the next refresh.
        return tuple(file_state(self._data / name) for name in (KEYS_FILE, ADMIN_KEY_FILE))

    def _read(self) -> dict[bytes, tuple[bytes, Caller]]:
        callers: dict[bytes, tuple[bytes, Caller]] = {}
        held = read_all(self._data)
        for record in held.keys:
            stored = bytes.fromhex(record.digest)
            callers[stored] = (stored, record.caller_of(held.shared(record.tenant)))
        if self._environ.get(ADMIN_KEY_VARIABLE) or (self._data / ADMIN_KEY_FILE).exists():
            stored = digest(admin_key(self._data, self._environ).encode())
            callers[stored] = (stored, Caller("admin", "admin", EVERY_SCOPE, grant=mark(stored)))
        return callers


def _by_id(callers: Mapping[bytes, tuple[bytes, Caller]]) -> dict[str, tuple[Caller, str]]:
    return {caller.key_id: (caller, caller.grant) for stored, caller in callers.values()}


def _read_admin_key(path: Path) -> str:
    cure = "move the file away and start again: a new key is made"
    try:
        with path.open("rb") as stream:
            raw = stream.read(KEY_CHARACTERS_MAX + 2)
    except FileNotFoundError as error:
        raise KeysError(
            f"{path}: there is no admin key yet; `cordee up` makes one, or set {ADMIN_KEY_VARIABLE}."
        ) from error
    except OSError as error:
        raise KeysError(f"{path}: the admin key cannot be read: {error.strerror}; run as the file's owner.") from error
    try:
        return _usable(raw.decode().removesuffix("\n"), str(path), cure)
    except UnicodeDecodeError as error:
        raise KeysError(f"{path}: the admin key is not UTF-8 text; {cure}.") from error


def _usable(key: str, where: str, cure: str) -> str:
    # Never the key itself in the message, not even a part of it.
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX or not key.isprintable():
        raise KeysError(f"{where}: an admin key is 1 to {KEY_CHARACTERS_MAX} printable characters on one line; {cure}.")
    return key
