"""Pages for people: plain HTML without scripts, that no other site can frame or learn anything from."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from fastapi.responses import HTMLResponse, Response

from cordee.services.accounts.oauth import OAuthProblem
from cordee.services.base.errors import Problem


def page(title: str, content: str, status: int, form_target: str = "") -> HTMLResponse:
    """`content`: HTML. `form_target`: the origin that an answered form leads on to."""
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


def told(problem: Problem | OAuthProblem) -> Response:
    """A page that says what cannot be done."""
    message = problem.message if isinstance(problem, Problem) else problem.description
    answer = page("This cannot be done", f"<p>{escape(message)}</p>", problem.status)
    if isinstance(problem, Problem) and problem.retry_after_s is not None:
        answer.headers["retry-after"] = str(problem.retry_after_s)
    return answer


def asks(name: str, scopes: frozenset[str]) -> str:
    """What somebody wants to do for the person, as HTML."""
    listed = "".join(f"<li>{escape(scope)}</li>" for scope in sorted(scopes))
    return f"<p><strong>{escape(name)}</strong> asks to act for you, with:</p><ul>{listed}</ul>"


def hidden(fields: Mapping[str, str]) -> str:
    """What a form brings along."""
    return "".join(f'<input type="hidden" name="{escape(k)}" value="{escape(v)}">' for k, v in fields.items())


ANSWERS = '<button name="answer" value="allow">Allow</button> <button name="answer" value="deny">Deny</button>'
