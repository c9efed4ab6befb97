"""OAuth and OpenID Connect over HTTP: forms in, JSON out, and what clients discover by themselves."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from cordee.services.accounts import consent, oauth
from cordee.services.accounts.oauth import GRANTS, OAuthProblem
from cordee.services.accounts.routes import shapes
from cordee.services.accounts.routes.account import tokens_shape
from cordee.services.accounts.routes.who import At, Who
from cordee.services.accounts.rules.rights import IDENTITY, SCOPES, Identity
from cordee.services.accounts.secrets_made import CHARACTERS_MAX
from cordee.services.accounts.tokens import ALGORITHM, TOKEN_CHARACTERS_MAX
from cordee.services.base.errors import Problem, documented

FIELDS_MAX = 32  # of one form
_FORM = "application/x-www-form-urlencoded"
KEYS_CACHED_S = 300
router = APIRouter(responses=documented(413, 503))


class OAuthError(BaseModel):
    """RFC 6749, 5.2."""

    error: str
    error_description: str


_REFUSED: dict[int | str, dict[str, Any]] = {400: {"model": OAuthError}, 401: {"model": OAuthError}}


def oauth_error(problem: OAuthProblem) -> Response:
    """The answer to an OAuth error."""
    headers = {"cache-control": "no-store"} | ({"www-authenticate": "Basic"} if problem.status == 401 else {})
    return JSONResponse({"error": problem.error, "error_description": problem.description}, problem.status, headers)


def fields(content: bytes) -> dict[str, str]:
    """The fields of a form or query, each once. Raises OAuthProblem."""
    try:
        pairs = parse_qsl(content.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    except (ValueError, UnicodeDecodeError) as error:
        raise OAuthProblem("invalid_request", f"A form of up to {FIELDS_MAX} fields in UTF-8 is expected.") from error
    found = dict(pairs)
    if len(found) != len(pairs):
        raise OAuthProblem("invalid_request", "A parameter is given twice.")
    if any("\x00" in value for value in found.values()):
        raise OAuthProblem("invalid_request", "A parameter holds a zero byte.")
    return found


async def form(request: Request) -> dict[str, str]:
    """The fields of the request's form. Raises OAuthProblem."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise OAuthProblem("invalid_request", f"The body must be {_FORM}.")
    return fields(await request.body())


Form = Annotated[dict[str, str], Depends(form)]


def _taking(required: list[str], **properties: int) -> dict[str, Any]:
    """A form's description: its fields with the most characters of each."""
    described = {name: {"type": "string", "maxLength": most} for name, most in properties.items()}
    schema = {"type": "object", "properties": described, "required": required}
    return {"requestBody": {"required": True, "content": {_FORM: {"schema": schema}}}}


_CLIENT = {"client_id": CHARACTERS_MAX, "client_secret": CHARACTERS_MAX}


@router.post(
    "/oauth/token", tags=["OAuth"], responses=_REFUSED,
    openapi_extra=_taking(
        ["grant_type"], grant_type=64, **_CLIENT, scope=1024, code=CHARACTERS_MAX, redirect_uri=512, code_verifier=128,
        refresh_token=CHARACTERS_MAX, device_code=CHARACTERS_MAX,
    ),
)  # fmt: skip
async def token(request: Request, service: At, given: Form, response: Response) -> shapes.TokensShape:
    """Tokens for an authorization code, a refresh token, a device code, or for the application itself."""
    client = await oauth.client_of(service, request.headers.get("authorization"), given)
    response.headers["cache-control"] = "no-store"
    return tokens_shape(await oauth.token(service, client, given))


class DeviceShape(BaseModel):
    """RFC 8628, 3.2."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


@router.post(
    "/oauth/device_authorization", tags=["OAuth"], responses=_REFUSED, openapi_extra=_taking([], **_CLIENT, scope=1024)
)
async def device_authorization(request: Request, service: At, given: Form, response: Response) -> DeviceShape:
    """Let a device wait until somebody allows it to act for them."""
    client = await oauth.client_of(service, request.headers.get("authorization"), given)
    waiting = await oauth.wait_for(service, client, given)
    uri = f"{service.settings.issuer}/oauth/device"
    response.headers["cache-control"] = "no-store"
    return DeviceShape(
        device_code=waiting.device_code, user_code=waiting.user_code, verification_uri=uri,
        verification_uri_complete=f"{uri}?user_code={waiting.user_code}", expires_in=waiting.expires_in, interval=waiting.interval,
    )  # fmt: skip


@router.post("/v1/auth/devices", tags=["OAuth"], responses=documented(400, 401, 403, 404, 409))
async def answer_device(service: At, who: Who, given: shapes.DeviceAnswer) -> shapes.DeviceAnswered:
    """Allow or deny a waiting device, as the user who is signed in."""
    if who.family is None:
        raise Problem(403, "A device is allowed by who has signed in, not by a key.", code="sign_in_first")
    user = await consent.user_who(service, who.tenant, who.id)
    assert user is not None, "who has signed in is a user"
    await consent.answer_device(service, given.user_code, user, given.allow)
    return shapes.DeviceAnswered(allowed=given.allow)


class Introspected(BaseModel, extra="allow"):
    """RFC 7662, 2.2."""

    active: bool


@router.post(
    "/oauth/introspect", tags=["OAuth"], responses=_REFUSED,
    openapi_extra=_taking(["token"], **_CLIENT, token=TOKEN_CHARACTERS_MAX),
)  # fmt: skip
async def introspect(request: Request, service: At, given: Form) -> Introspected:
    """Whether a token is in force, and what it says. For applications with a secret."""
    client = await oauth.client_of(service, request.headers.get("authorization"), given)
    if client.secret_digest is None:
        raise OAuthProblem("invalid_client", "Only an application with a secret may ask this.", 401)
    return Introspected(**await oauth.introspect(service, client, _token(given)))


@router.post(
    "/oauth/revoke", tags=["OAuth"], responses=_REFUSED,
    openapi_extra=_taking(["token"], **_CLIENT, token=TOKEN_CHARACTERS_MAX),
)  # fmt: skip
async def revoke(request: Request, service: At, given: Form) -> dict[str, str]:
    """End what a token belongs to; the answer is the same for one that is unknown."""
    client = await oauth.client_of(service, request.headers.get("authorization"), given)
    await oauth.revoke(service, client, _token(given))
    return {}


@router.get("/oauth/userinfo", tags=["OAuth"], responses=documented(400, 401, 403))
async def userinfo(service: At, who: Who) -> dict[str, Any]:
    """OpenID Connect's facts about the user that a token with the scope `openid` is for."""
    if Identity.OPENID not in who.scopes:
        raise Problem(403, "This needs a token with the scope openid.", code="no_scope")
    user = await consent.user_who(service, who.tenant, who.id)
    assert user is not None, "only users are asked for openid"
    return {"sub": user.id, **oauth.facts(user, who.scopes)}


@router.get("/.well-known/jwks.json", tags=["OAuth"])
async def jwks(service: At, response: Response) -> dict[str, list[dict[str, Any]]]:
    """The keys that access and identity tokens are signed with. A new one is here an hour before it signs."""
    await service.mint.keep()
    response.headers["cache-control"] = f"public, max-age={KEYS_CACHED_S}"
    return {"keys": service.mint.published()}


@router.get("/.well-known/openid-configuration", tags=["OAuth"])
@router.get("/.well-known/oauth-authorization-server", tags=["OAuth"])
async def discovery(service: At) -> dict[str, Any]:
    """OpenID Connect Discovery 1.0 and RFC 8414."""
    issuer = service.settings.issuer
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/oauth/authorize",
        "token_endpoint": f"{issuer}/oauth/token",
        "device_authorization_endpoint": f"{issuer}/oauth/device_authorization",
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "userinfo_endpoint": f"{issuer}/oauth/userinfo",
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "scopes_supported": sorted(SCOPES | IDENTITY),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANTS),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "claims_supported": ["sub", "tenant", "email", "email_verified", "name"],
    }


def _token(given: dict[str, str]) -> str:
    shown = given.get("token", "")
    if not 0 < len(shown) <= TOKEN_CHARACTERS_MAX:
        raise OAuthProblem("invalid_request", f"token is required, with up to {TOKEN_CHARACTERS_MAX} characters.")
    return shown
