"""Who is signed in at the command line: tokens in a file of the user's own, refreshed by one command at a time.

A refresh token is used once; two commands that used the same one would end the sign-in, so the file is locked from reading the old token
to writing the new one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from cordee.adapters.durable import directory, locked, replace
from cordee.cli.asking import AskError, ask

FILE, LOCK = "login.json", "login.lock"
FRESH_S = 60.0  # an access token that ends sooner is renewed first
CLIENT = "cordee"  # OAuth's name of this command line


class SignIn(msgspec.Struct, frozen=True):
    """`base`: the platform, without /v1; `trusted`: the certificate file to know it by, "" for the system's trust."""

    base: str
    access: str
    refresh: str
    ends_s: float
    trusted: str = ""


class SignedOutError(Exception):
    """Nobody is signed in (any more). The message says what to do."""


def place(environ: Mapping[str, str] = os.environ) -> Path:
    """The directory with the sign-in."""
    root = environ.get("XDG_CONFIG_HOME")
    return (Path(root) if root else Path.home() / ".config") / "cordee"


def store(where: Path, sign_in: SignIn) -> None:
    """Raises OSError."""
    directory(where)
    with locked(where / LOCK):
        replace(where / FILE, msgspec.json.encode(sign_in))


def stored(where: Path) -> SignIn | None:
    """None where nobody is signed in, or the file is not ours. Raises OSError."""
    try:
        return msgspec.json.decode((where / FILE).read_bytes(), type=SignIn)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        return None


def forget(where: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        (where / FILE).unlink()


def current(where: Path, now: float | None = None) -> SignIn:
    """The sign-in with an access token that is in force. Raises SignedOutError, AskError, OSError."""
    now = time.time() if now is None else now
    if stored(where) is None:
        raise SignedOutError("nobody is signed in: use `cordee login`")
    with locked(where / LOCK):
        held = stored(where)
        if held is None:
            raise SignedOutError("nobody is signed in: use `cordee login`")
        if held.ends_s - FRESH_S > now:
            return held
        form = {"grant_type": "refresh_token", "refresh_token": held.refresh, "client_id": CLIENT}
        answer = ask(held.base, "POST", "/oauth/token", held.trusted, form=form)
        if answer.status in (400, 401):
            forget(where)
            raise SignedOutError("this sign-in has ended: use `cordee login`")
        fresh = of_answer(held.base, held.trusted, answer.expect("the sign-in could not be renewed"), now)
        replace(where / FILE, msgspec.json.encode(fresh))
        return fresh


def of_answer(base: str, trusted: str, answer: dict[str, Any], now: float) -> SignIn:
    """Of what the token endpoint said. Raises AskError."""
    try:
        return SignIn(
            base, str(answer["access_token"]), str(answer["refresh_token"]), now + float(answer["expires_in"]), trusted
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AskError(f"{base} gave no tokens; is this a Cordée with accounts?") from error
