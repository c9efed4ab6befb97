"""Leaving for a provider outside, coming back from it, and the page on which who is back answers what they were asked."""

from __future__ import annotations

from html import escape
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from cordee.services.accounts import consent, outside
from cordee.services.accounts.consent import Asked, SentBack
from cordee.services.accounts.oauth import OAuthProblem
from cordee.services.accounts.outside import USER_CODE, Back, Step
from cordee.services.accounts.providers.provider import Provider
from cordee.services.accounts.routes.html import ANSWERS, asks, hidden, page, told
from cordee.services.accounts.routes.oauth import Form, fields
from cordee.services.accounts.routes.who import At
from cordee.services.accounts.service import Service
from cordee.services.base.errors import Problem, not_found

router = APIRouter(include_in_schema=False)
FOLDER = "/oauth/providers/"


def _provider(request: Request, name: str) -> Provider:
    providers: dict[str, Provider] = request.app.state.providers
    found = providers.get(name)
    if found is None:
        raise not_found("provider", name[:64])
    return found


There = Annotated[Provider, Depends(_provider)]


@router.get(FOLDER + "{name}")
async def leave(request: Request, service: At, provider: There) -> Response:
    """To the provider, with what the page that the link stood on had asked."""
    try:
        step, uri = await outside.begin(service, provider, fields(request.url.query.encode()))
    except SentBack as back:
        return RedirectResponse(back.uri, 303)
    except (Problem, OAuthProblem) as problem:
        return told(problem)
    response = RedirectResponse(uri, 303, {"cache-control": "no-store", "referrer-policy": "no-referrer"})
    _tie(service, response, step)
    return response


@router.get(FOLDER + "{name}/callback")
async def callback(request: Request, service: At, provider: There) -> Response:
    """Back from the provider: who they are, and what they are asked."""
    try:
        query = fields(request.url.query.encode())
        name = outside.cookie_of(query.get("state", ""))
        back = await outside.back(service, provider, query, request.cookies.get(name, ""))
        response = await _question(service, provider, back)
    except (Problem, OAuthProblem) as problem:
        return told(problem)
    except SentBack as sent:  # the application has changed meanwhile
        return RedirectResponse(sent.uri, 303)
    _untie(service, response, name)
    _tie(service, response, back.step)
    return response


@router.post(FOLDER + "{name}/answer")
async def answer(request: Request, service: At, provider: There, given: Form) -> Response:
    """The person's answer: on to the application, or to the device."""
    ticket, is_allowed = given.get("ticket", ""), given.get("answer") == "allow"
    name = outside.cookie_of(ticket)
    response: Response
    try:
        user, asked = await outside.answering(service, provider, ticket, request.cookies.get(name, ""))
        if USER_CODE in asked:
            await consent.answer_device(service, asked[USER_CODE], user, is_allowed)
            said = "The device goes on by itself." if is_allowed else "The device was told no."
            response = page("Done", f"<p>{said}</p>", 200)
        else:
            wanted = await consent.read(service, asked)
            uri = await consent.allow(service, wanted, user) if is_allowed else consent.deny(service, wanted)
            response = RedirectResponse(uri, 303)
    except SentBack as back:
        return RedirectResponse(back.uri, 303)
    except Problem as problem:
        return told(problem)
    _untie(service, response, name)
    return response


async def _question(service: Service, provider: Provider, back: Back) -> Response:
    if USER_CODE in back.asked:
        device, application = await consent.device_asked(service, back.asked[USER_CODE])
        title, content, target = "Connect a device", asks(application.name, device.scopes), ""
    else:
        asked: Asked = await consent.read(service, back.asked)
        parts = urlsplit(asked.redirect_uri)
        title, content = "Allow access", asks(asked.application.name, asked.scopes)
        target = f"{parts.scheme}://{parts.netloc}"
    action = f"{urlsplit(service.settings.issuer).path}{FOLDER}{provider.name}/answer"
    form = f'<form method="post" action="{escape(action)}">{hidden({"ticket": back.step.shown})}{ANSWERS}</form>'
    return page(title, f"<p>You are {escape(back.user.email)}.</p>{content}{form}", 200, target)


def _tie(service: Service, response: Response, step: Step) -> None:
    issuer = urlsplit(service.settings.issuer)
    response.set_cookie(
        step.name, step.cookie, max_age=service.settings.tokens.provider_s, path=issuer.path + FOLDER,
        secure=issuer.scheme == "https", httponly=True, samesite="lax",
    )  # fmt: skip


def _untie(service: Service, response: Response, name: str) -> None:
    issuer = urlsplit(service.settings.issuer)
    response.delete_cookie(name, issuer.path + FOLDER, secure=issuer.scheme == "https", httponly=True, samesite="lax")
