"""The two pages on which a person allows an application or a device to act for them: without a session, and without cookies.

A person proves who they are with address and password on the page itself, or leaves for a provider (routes/providers.py). There is no
session, so there is nothing that another site could use in their name; what the form holds besides is checked anew when it comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from cordee.services.accounts import consent, signin
from cordee.services.accounts.consent import Asked, SentBack
from cordee.services.accounts.oauth import OAuthProblem
from cordee.services.accounts.records import User
from cordee.services.accounts.routes.html import ANSWERS, asks, hidden, page, told
from cordee.services.accounts.routes.oauth import Form, fields
from cordee.services.accounts.routes.providers import FOLDER as PROVIDERS
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
        return _consent(service, await consent.read(service, query), query, 200)
    except SentBack as back:
        return RedirectResponse(back.uri, 303)
    except (Problem, OAuthProblem) as problem:
        return told(problem)


@router.post("/oauth/authorize")
async def authorized(service: At, given: Form) -> Response:
    """The person's answer."""
    try:
        asked = await consent.read(service, given)
    except SentBack as back:
        return RedirectResponse(back.uri, 303)
    except Problem as problem:
        return told(problem)
    if given.get("answer") != "allow":
        return RedirectResponse(consent.deny(service, asked), 303)
    try:
        return RedirectResponse(await consent.allow(service, asked, await _proven(service, given)), 303)
    except Problem as problem:
        return _consent(service, asked, given, problem.status, problem.message)


@router.get("/oauth/device")
async def device(request: Request, service: At) -> Response:
    """Ask the person for the code that their device shows; with one, whether it may act for them."""
    try:
        typed = fields(request.url.query.encode()).get("user_code", "")
        return await _device(service, typed, 200)
    except (Problem, OAuthProblem) as problem:
        return told(problem)


@router.post("/oauth/device")
async def device_answered(service: At, given: Form) -> Response:
    """The person's answer."""
    typed, is_allowed = given.get("user_code", ""), given.get("answer") == "allow"
    try:
        await consent.device_asked(service, typed)
    except Problem as problem:
        return told(problem)
    try:
        await consent.answer_device(service, typed, await _proven(service, given), is_allowed)
    except Problem as problem:
        return await _device(service, typed, problem.status, problem.message)
    return page("Done", "<p>The device goes on by itself.</p>" if is_allowed else "<p>The device was told no.</p>", 200)


async def _proven(service: Service, given: Mapping[str, str]) -> User:
    email, password = given.get("email", ""), given.get("password", "")
    if not 0 < len(email) <= EMAIL_CHARACTERS_MAX or not 0 < len(password) <= PASSWORD_CHARACTERS_MAX:
        raise Problem(401, "There is no user with this address and password.")
    return await signin.prove(service, email, password)


async def _device(service: Service, typed: str, status: int, said: str = "") -> Response:
    if not typed:
        content = '<form method="get"><label>Code on the device <input name="user_code" autofocus></label><button>Go on</button></form>'
        return page("Connect a device", content, status)
    found, application = await consent.device_asked(service, typed)
    kept = {"user_code": found.user_code}
    return page("Connect a device", _question(service, application.name, found.scopes, kept, said), status)


def _consent(service: Service, asked: Asked, given: Mapping[str, str], status: int, said: str = "") -> Response:
    kept = {name: given[name] for name in consent.PARAMETERS if name in given}
    parts = urlsplit(asked.redirect_uri)
    return page(
        "Allow access",
        _question(service, asked.application.name, asked.scopes, kept, said),
        status,
        f"{parts.scheme}://{parts.netloc}",
    )


def _question(service: Service, name: str, scopes: frozenset[str], kept: Mapping[str, str], said: str) -> str:
    return (
        f'<p role="alert">{escape(said)}</p>{asks(name, scopes)}'
        f'<form method="post">{hidden(kept)}<p><label>E-mail <input name="email" type="email" autocomplete="username"></label></p>'
        '<p><label>Password <input name="password" type="password" autocomplete="current-password"></label></p>'
        f"{ANSWERS}</form>{_elsewhere(service, kept)}"
    )


def _elsewhere(service: Service, kept: Mapping[str, str]) -> str:
    """Links to the providers by which one may sign in instead: links, because browsers hold forms to where the page may send them."""
    folder = urlsplit(service.settings.issuer).path + PROVIDERS
    return "".join(
        f'<p><a href="{escape(f"{folder}{name}?{urlencode(kept)}")}">Sign in with {escape(one.title or name)}</a></p>'
        for name, one in service.settings.providers.items()
    )
