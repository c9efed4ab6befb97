"""The two pages on which a person allows an application or a device to act for them: plain HTML, without scripts or cookies.

A person proves who they are with address and password on the page itself. There is no session, so there is nothing that another site
could use in their name; what the form holds besides is checked anew when it comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cordee.services.accounts import consent, signin
from cordee.services.accounts.consent import Asked, SentBack
from cordee.services.accounts.oauth import OAuthProblem
from cordee.services.accounts.records import User
from cordee.services.accounts.routes.oauth import Form, fields
from cordee.services.accounts.routes.who import At
from cordee.services.accounts.rules.words import EMAIL_CHARACTERS_MAX, PASSWORD_CHARACTERS_MAX
from cordee.services.accounts.service import Service
from cordee.services.base.errors import Problem

router = APIRouter(include_in_schema=False)


@router.get("/oauth/authorize")
async def authorize(request: Request, service: At) -> Response:
    """Ask the person whether an application may act for them."""
    try:
        query = fields(request.url.query.encode())
        return _consent(await consent.read(service, query), query, 200)
    except SentBack as back:
        return RedirectResponse(back.uri, 303)
    except (Problem, OAuthProblem) as problem:
        return _told(problem)


@router.post("/oauth/authorize")
async def authorized(service: At, given: Form) -> Response:
    """The person's answer."""
    try:
        asked = await consent.read(service, given)
    except SentBack as back:
        return RedirectResponse(back.uri, 303)
    except Problem as problem:
        return _told(problem)
    if given.get("answer") != "allow":
        return RedirectResponse(consent.deny(service, asked), 303)
    try:
        return RedirectResponse(await consent.allow(service, asked, await _proven(service, given)), 303)
    except Problem as problem:
        return _consent(asked, given, problem.status, problem.message)


@router.get("/oauth/device")
async def device(request: Request, service: At) -> Response:
    """Ask the person for the code that their device shows; with one, whether it may act for them."""
    try:
        typed = fields(request.url.query.encode()).get("user_code", "")
        return await _device(service, typed, 200)
    except (Problem, OAuthProblem) as problem:
        return _told(problem)


@router.post("/oauth/device")
async def device_answered(service: At, given: Form) -> Response:
    """The person's answer."""
    typed, is_allowed = given.get("user_code", ""), given.get("answer") == "allow"
    try:
        await consent.device_asked(service, typed)
    except Problem as problem:
        return _told(problem)
    try:
        await consent.answer_device(service, typed, await _proven(service, given), is_allowed)
    except Problem as problem:
        return await _device(service, typed, problem.status, problem.message)
    return _page(
        "Done", "<p>The device goes on by itself.</p>" if is_allowed else "<p>The device was told no.</p>", 200
    )


async def _proven(service: Service, given: Mapping[str, str]) -> User:
    email, password = given.get("email", ""), given.get("password", "")
    if not 0 < len(email) <= EMAIL_CHARACTERS_MAX or not 0 < len(password) <= PASSWORD_CHARACTERS_MAX:
        raise Problem(401, "There is no user with this address and password.")
    return await signin.prove(service, email, password)


async def _device(service: Service, typed: str, status: int, said: str = "") -> Response:
    if not typed:
        content = '<form method="get"><label>Code on the device <input name="user_code" autofocus></label><button>Go on</button></form>'
        return _page("Connect a device", content, status)
    found, application = await consent.device_asked(service, typed)
    hidden = {"user_code": found.user_code}
    return _page("Connect a device", _question(application.name, found.scopes, hidden, said), status)


def _consent(asked: Asked, given: Mapping[str, str], status: int, said: str = "") -> Response:
    names = (
        "client_id",
        "redirect_uri",
        "response_type",
        "scope",
        "state",
        "code_challenge",
        "code_challenge_method",
        "nonce",
    )
    hidden = {name: given[name] for name in names if name in given}
    parts = urlsplit(asked.redirect_uri)
    return _page(
        "Allow access",
        _question(asked.application.name, asked.scopes, hidden, said),
        status,
        f"{parts.scheme}://{parts.netloc}",
    )


def _question(name: str, scopes: frozenset[str], hidden: Mapping[str, str], said: str) -> str:
    kept = "".join(f'<input type="hidden" name="{escape(k)}" value="{escape(v)}">' for k, v in hidden.items())
    listed = "".join(f"<li>{escape(scope)}</li>" for scope in sorted(scopes))
    return (
        f'<p role="alert">{escape(said)}</p><p><strong>{escape(name)}</strong> asks to act for you, with:</p><ul>{listed}</ul>'
        f'<form method="post">{kept}<p><label>E-mail <input name="email" type="email" autocomplete="username"></label></p>'
        '<p><label>Password <input name="password" type="password" autocomplete="current-password"></label></p>'
        '<button name="answer" value="allow">Allow</button> <button name="answer" value="deny">Deny</button></form>'
    )


def _told(problem: Problem | OAuthProblem) -> Response:
    message = problem.message if isinstance(problem, Problem) else problem.description
    return _page("This cannot be done", f"<p>{escape(message)}</p>", problem.status)


def _page(title: str, content: str, status: int, form_target: str = "") -> HTMLResponse:
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title} – Cordée</title></head><body><h1>{title}</h1>{content}</body></html>"
    )
    headers = {
        # Browsers hold a form's redirect to form-action too, so the application's origin is named.
        "content-security-policy": f"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self' {form_target}",
        "x-frame-options": "DENY",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }
    return HTMLResponse(html, status, headers)
