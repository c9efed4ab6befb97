"""`cordee login`, `cordee logout`, `cordee whoami`: sign in from a terminal, allowed in a browser (RFC 8628)."""

from __future__ import annotations

import argparse
import time
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path

from cordee.cli.asking import AskError, ask
from cordee.cli.chat import running_at
from cordee.cli.complaint import complain, shown
from cordee.cli.signed_in import CLIENT, SignedOutError, SignIn, current, forget, of_answer, place, store, stored
from cordee.config.load import ConfigError, data_dir, load

FAILED = 1
USAGE = 2
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
POLL_S_MAX = 60.0
SLOWER_S = 5.0  # RFC 8628, 3.5

EXAMPLES = """examples:
  cordee login                                  at the platform of this host
  cordee login --url https://models.example     at another one
  cordee whoami                                 who is signed in, and what they may do
  cordee logout                                 end it, everywhere"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, run, said in (
        ("login", _login, "sign in: a page in a browser asks for it"),
        ("logout", _logout, "end the sign-in of this terminal"),
        ("whoami", _whoami, "who is signed in, and what they may do"),
    ):
        parser = commands.add_parser(
            name, help=said, description=said[0].upper() + said[1:] + ".", epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter
        )  # fmt: skip
        parser.set_defaults(run=run)
        if name == "login":
            parser.add_argument("--url", metavar="URL", help="the platform (default: the one of this host)")
            parser.add_argument("--data", metavar="DIR", help="data directory (default: ~/.local/share/cordee)")
            parser.add_argument("--config", metavar="FILE", type=Path, help="configuration file")


def _login(args: argparse.Namespace) -> int:
    try:
        base, trusted = _where(args)
        sign_in = device_login(base, trusted, print, time.sleep)
        store(place(), sign_in)
    except ConfigError as error:
        return complain(str(error), USAGE)
    except (AskError, OSError) as error:
        return complain(str(error), FAILED)
    print("signed in")
    return 0


def _logout(_args: argparse.Namespace) -> int:
    try:
        held = stored(place())
        if held is None:
            print("nobody is signed in")
            return 0
        ask(held.base, "POST", "/oauth/revoke", held.trusted, form={"client_id": CLIENT, "token": held.refresh}).expect(
            "the sign-in could not be ended, and is kept"
        )
        forget(place())
    except (AskError, OSError) as error:
        return complain(str(error), FAILED)
    print("signed out")
    return 0


def _whoami(_args: argparse.Namespace) -> int:
    try:
        held = current(place())
        me = ask(held.base, "GET", "/v1/auth/me", held.trusted, token=held.access).expect("nobody can be told")
    except (SignedOutError, AskError, OSError) as error:
        return complain(str(error), FAILED)
    scopes = me.get("scopes")
    print(shown(f"{me.get('id')} in {me.get('tenant')} at {held.base}, role {me.get('role')}"))
    print(shown("may: " + " ".join(map(str, scopes if isinstance(scopes, list) else ()))))
    return 0


def device_login(
    base: str, trusted: str, tell: Callable[[str], None], wait: Callable[[float], None], clock: Callable[[], float] = time.time
) -> SignIn:  # fmt: skip
    """Ask for a code, tell it, and wait until it was answered. Raises AskError."""
    form = {"client_id": CLIENT}
    asked = ask(base, "POST", "/oauth/device_authorization", trusted, form=form).expect("signing in is not possible")
    try:
        code, user_code, ends = str(asked["device_code"]), str(asked["user_code"]), clock() + float(asked["expires_in"])
        uri, interval = str(asked["verification_uri_complete"]), float(asked.get("interval", SLOWER_S))
    except (KeyError, TypeError, ValueError) as error:
        raise AskError(f"{base} does not sign in devices; is this a Cordée with accounts?") from error
    tell(f"Open {shown(uri)}\nand allow the code {shown(user_code)}")
    while clock() < ends:
        wait(min(interval, POLL_S_MAX))
        asking = {**form, "grant_type": DEVICE_GRANT, "device_code": code}
        answer = ask(base, "POST", "/oauth/token", trusted, form=asking)
        match answer.body.get("error") if answer.status == 400 else None:
            case "authorization_pending":
                continue
            case "slow_down":
                interval += SLOWER_S
            case _:
                return of_answer(base, trusted, answer.expect("not signed in"), clock())
    raise AskError("nobody allowed it in time; try again")


def _where(args: argparse.Namespace) -> tuple[str, str]:
    """The platform, and the certificate to know it by."""
    data = data_dir(args.data)
    found, trusted = ("", "") if args.url else running_at(data)
    base = args.url or found or f"http://{load(args.config, data).web.address}"
    return base.rstrip("/").removesuffix("/v1"), trusted
