"""Signing in, tenants, users, applications and API keys."""

from __future__ import annotations

from cordee.services.accounts import applications, keys, membership, signin
from cordee.services.accounts.membership import Change, Person
from cordee.services.accounts.routes import shapes
from cordee.services.accounts.routes.who import At, KeyId, PathId, Who, WhoInBrowser, listing
from cordee.services.accounts.rules.rights import Role
from cordee.services.accounts.signin import Issued
from cordee.services.base.errors import Problem, documented
from cordee.services.base.paging import Asked, Listing
from cordee.services.base.strict import Router

router = Router(prefix="/v1", responses=documented(400, 401, 403, 404, 409, 413, 429, 503))


def tokens_shape(issued: Issued) -> shapes.TokensShape:
    return shapes.TokensShape(
        access_token=issued.access, expires_in=issued.expires_in, refresh_token=issued.refresh,
        scope=" ".join(sorted(issued.scopes)), id_token=issued.identity,
    )  # fmt: skip


@router.post("/auth/login", tags=["signing in"])
async def login(service: At, given: shapes.SignIn) -> shapes.TokensShape:
    """Sign in with address and password."""
    return tokens_shape(await signin.sign_in(service, given.email, given.password))


@router.post("/auth/refresh", tags=["signing in"])
async def refresh(service: At, given: shapes.Refresh) -> shapes.TokensShape:
    """The next tokens. A refresh token shown twice ends the whole signing in."""
    issued = await signin.refresh(service, given.refresh_token, None)
    if issued is None:
        raise Problem(401, "This refresh token is not in force; sign in again.", code="invalid_refresh_token")
    return tokens_shape(issued)


@router.post("/auth/logout", tags=["signing in"])
async def logout(service: At, who: Who) -> shapes.Removed:
    """End this signing in: its access and refresh tokens."""
    await signin.sign_out(service, who)
    return shapes.Removed(id=who.family or who.id)


@router.get("/auth/me", tags=["signing in"])
async def me(who: WhoInBrowser) -> shapes.Myself:
    """Who this key, token or browser's session belongs to."""
    role = None if who.role is None else shapes.role_name(who.role)
    return shapes.Myself(id=who.id, tenant=who.tenant, role=role, scopes=sorted(who.scopes))


@router.post("/tenants", tags=["tenants"])
async def add_tenant(service: At, who: Who, given: shapes.TenantGiven) -> shapes.TenantShape:
    """Another tenant, with its first owner. For operators."""
    owner = Person(given.owner.email, given.owner.name, Role.OWNER, given.owner.password)
    return shapes.tenant_shape(
        await membership.add_tenant(service, who, given.name, given.limits.meant(), owner, given.wished())
    )


@router.get("/tenants", tags=["tenants"])
async def list_tenants(service: At, who: Who, page: Asked) -> Listing[shapes.TenantShape]:
    """All tenants. For operators."""
    found = await membership.tenants_seen(service, who, page)
    return listing([shapes.tenant_shape(one) for one in found], [one.id for one in found], page)


@router.get("/tenants/{tenant_id}", tags=["tenants"])
async def show_tenant(service: At, who: Who, tenant_id: PathId) -> shapes.TenantShape:
    return shapes.tenant_shape(await membership.tenant_seen(service, who, tenant_id))


@router.post("/tenants/{tenant_id}", tags=["tenants"])
async def change_tenant(service: At, who: Who, tenant_id: PathId, given: shapes.TenantChanged) -> shapes.TenantShape:
    """Its name, for owners; its limits, all of them anew, and how far its calls go, for operators."""
    limits = None if given.limits is None else given.limits.meant()
    return shapes.tenant_shape(
        await membership.change_tenant(service, who, tenant_id, given.name, limits, given.wished())
    )


@router.post("/users", tags=["users"])
async def add_user(service: At, who: Who, given: shapes.UserGiven) -> shapes.UserShape:
    person = Person(given.email, given.name, Role(given.role), given.password)
    return shapes.user_shape(await membership.add_user(service, who, person))


@router.get("/users", tags=["users"])
async def list_users(service: At, who: Who, page: Asked) -> Listing[shapes.UserShape]:
    found = await membership.users_seen(service, who, page)
    return listing([shapes.user_shape(one) for one in found], [one.id for one in found], page)


@router.get("/users/{user_id}", tags=["users"])
async def show_user(service: At, who: Who, user_id: PathId) -> shapes.UserShape:
    return shapes.user_shape(await membership.user_seen(service, who, user_id))


@router.post("/users/{user_id}", tags=["users"])
async def change_user(service: At, who: Who, user_id: PathId, given: shapes.UserChanged) -> shapes.UserShape:
    """What is given changes. A new password or switching off ends all the user's signings in."""
    role = None if given.role is None else Role(given.role)
    change = Change(given.email, given.name, role, given.is_active, given.password, given.current_password)
    return shapes.user_shape(await membership.change_user(service, who, user_id, change))


@router.delete("/users/{user_id}", tags=["users"])
async def remove_user(service: At, who: Who, user_id: PathId) -> shapes.Removed:
    """With all their keys and tokens."""
    await membership.remove_user(service, who, user_id)
    return shapes.Removed(id=user_id)


@router.post("/applications", tags=["applications"])
async def add_application(service: At, who: Who, given: shapes.ApplicationGiven) -> shapes.ApplicationShape:
    """Register an application. Its secret is in this answer and never again."""
    wanted = applications.Wanted(given.name, frozenset(given.scopes), tuple(given.redirect_uris), given.is_confidential)
    return shapes.application_shape(*await applications.add_application(service, who, wanted))


@router.get("/applications", tags=["applications"])
async def list_applications(service: At, who: Who, page: Asked) -> Listing[shapes.ApplicationShape]:
    found = await applications.applications_seen(service, who, page)
    return listing([shapes.application_shape(one) for one in found], [one.id for one in found], page)


@router.get("/applications/{application_id}", tags=["applications"])
async def show_application(service: At, who: Who, application_id: PathId) -> shapes.ApplicationShape:
    return shapes.application_shape(await applications.application_seen(service, who, application_id))


@router.post("/applications/{application_id}", tags=["applications"])
async def change_application(
    service: At, who: Who, application_id: PathId, given: shapes.ApplicationChanged
) -> shapes.ApplicationShape:
    """What is given changes. A renewed secret ends the old one at once."""
    return shapes.application_shape(
        *await applications.change_application(
            service, who, application_id, given.name, None if given.scopes is None else frozenset(given.scopes),
            None if given.redirect_uris is None else tuple(given.redirect_uris), given.renew_secret,
        )
    )  # fmt: skip


@router.delete("/applications/{application_id}", tags=["applications"])
async def remove_application(service: At, who: Who, application_id: PathId) -> shapes.Removed:
    """With all its keys and tokens."""
    await applications.remove_application(service, who, application_id)
    return shapes.Removed(id=application_id)


@router.post("/api_keys", tags=["API keys"])
async def add_key(service: At, who: Who, given: shapes.KeyGiven) -> shapes.KeyShape:
    """Make a key. It is in this answer and never again."""
    wanted = keys.Wanted(
        given.name, frozenset(given.scopes), given.owner, given.expires_at, given.limits.meant(), given.wished()
    )
    shown, key = await keys.add_key(service, who, wanted)
    return shapes.key_shape(key, shown)


@router.get("/api_keys", tags=["API keys"])
async def list_keys(service: At, who: Who, page: Asked) -> Listing[shapes.KeyShape]:
    """One's own; the whole tenant's with the scope keys.manage."""
    found = await keys.keys_seen(service, who, page)
    return listing([shapes.key_shape(one) for one in found], [one.id for one in found], page)


@router.get("/api_keys/{key_id}", tags=["API keys"])
async def show_key(service: At, who: Who, key_id: KeyId) -> shapes.KeyShape:
    return shapes.key_shape(await keys.key_seen(service, who, key_id))


@router.post("/api_keys/{key_id}", tags=["API keys"])
async def change_key(service: At, who: Who, key_id: KeyId, given: shapes.KeyChanged) -> shapes.KeyShape:
    """What is given changes; limits all of them anew."""
    scopes = None if given.scopes is None else frozenset(given.scopes)
    limits = None if given.limits is None else given.limits.meant()
    changed = await keys.change_key(service, who, key_id, given.name, scopes, limits, given.expires_at, given.wished())
    return shapes.key_shape(changed)


@router.delete("/api_keys/{key_id}", tags=["API keys"])
async def remove_key(service: At, who: Who, key_id: KeyId) -> shapes.Removed:
    """Revoke a key."""
    await keys.remove_key(service, who, key_id)
    return shapes.Removed(id=key_id)
