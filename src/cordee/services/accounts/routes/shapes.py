"""What the bodies of accounts look like, with the limits of every field. Times are seconds of the epoch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cordee.domain.call import Priority, Sensitivity
from cordee.domain.caller import Allowances, Budget, Period
from cordee.services.accounts.records import ApiKey, Application, Tenant, User
from cordee.services.accounts.rules.grants import REDIRECT_CHARACTERS_MAX
from cordee.services.accounts.rules.rights import Role, Scope
from cordee.services.accounts.rules.standing import Wish
from cordee.services.accounts.rules.words import EMAIL_CHARACTERS_MAX, NAME_CHARACTERS_MAX, PASSWORD_CHARACTERS_MAX
from cordee.services.accounts.secrets_made import CHARACTERS_MAX
from cordee.services.base.identifiers import PATTERN

LIMIT_MAX = 1_000_000_000
TOKENS_MAX = 1_000_000_000_000_000
MONEY_MAX = 1e12
TIME_MAX = 253_402_300_800  # the year 10,000
BUDGETS_MAX = 3  # one per period
REDIRECTS_MAX = 16
SCOPES_MAX = 64


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("printable characters only")
    return text


Id = Annotated[str, Field(pattern=PATTERN)]
Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX), AfterValidator(_printable)]
Email = Annotated[str, Field(min_length=3, max_length=EMAIL_CHARACTERS_MAX, examples=["ada@example.com"])]
Password = Annotated[str, Field(min_length=1, max_length=PASSWORD_CHARACTERS_MAX)]
Shown = Annotated[str, Field(min_length=1, max_length=CHARACTERS_MAX)]
RoleName = Literal["owner", "admin", "developer", "user", "viewer"]
PriorityName = Literal["interactive", "standard", "batch"]
SensitivityName = Literal["public", "internal", "confidential"]
ScopeName = Annotated[str, Field(max_length=64, json_schema_extra={"enum": [scope.value for scope in Scope]})]
ScopeNames = Annotated[list[ScopeName], Field(max_length=SCOPES_MAX), AfterValidator(lambda names: _known(names))]
Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX)]
Moment = Annotated[float, Field(ge=0, le=TIME_MAX, allow_inf_nan=False)]


def _known(names: list[str]) -> list[str]:
    strange = set(names) - {scope.value for scope in Scope}
    if strange:
        raise ValueError(f"there is no scope {min(strange)[:64]!r}")
    return names


class Given(BaseModel):
    """A request's body: no other parameters than these, and none of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class BudgetShape(Given):
    """What may be used in one period of UTC."""

    period: Literal["hour", "day", "month"]
    tokens: Annotated[int, Field(ge=1, le=TOKENS_MAX)] | None = None
    money: Annotated[float, Field(gt=0, le=MONEY_MAX, allow_inf_nan=False)] | None = None


class Limits(Given):
    """What a key, or a tenant's keys together, may use; None is no limit."""

    requests_per_minute: Limit | None = None
    concurrent_calls: Limit | None = None
    tokens_per_minute: Limit | None = None
    budgets: Annotated[list[BudgetShape], Field(max_length=BUDGETS_MAX)] = []

    def meant(self) -> Allowances:
        budgets = tuple(Budget(Period(one.period), one.tokens, one.money) for one in self.budgets)
        return Allowances(self.requests_per_minute, self.concurrent_calls, self.tokens_per_minute, budgets)


def limits_of(found: Allowances) -> Limits:
    return Limits(
        requests_per_minute=found.requests_per_minute,
        concurrent_calls=found.concurrent_calls,
        tokens_per_minute=found.tokens_per_minute,
        budgets=[BudgetShape(period=one.period.value, tokens=one.tokens, money=one.money) for one in found.budgets],
    )


class BoundsGiven(Given):
    """How far calls may go; what is not given stays as it is."""

    priority_max: PriorityName | None = Field(None, description="The highest that calls may ask for.")
    local_only: bool | None = Field(None, description="Whether calls never leave this installation.")
    sensitivity: SensitivityName | None = Field(
        None, description="How late calls leave it; of a tenant: at least so late."
    )

    def wished(self) -> Wish:
        return Wish(None, _priority(self.priority_max), self.local_only, _sensitivity(self.sensitivity))


class StandingGiven(BoundsGiven):
    """How a key's calls stand beside others, within what its tenant may."""

    priority: PriorityName | None = Field(None, description="Of calls that do not say.")

    def wished(self) -> Wish:
        highest = _priority(self.priority_max)
        return Wish(_priority(self.priority), highest, self.local_only, _sensitivity(self.sensitivity))


def _priority(name: PriorityName | None) -> Priority | None:
    return None if name is None else Priority[name.upper()]


def _sensitivity(name: SensitivityName | None) -> Sensitivity | None:
    return None if name is None else Sensitivity[name.upper()]


class SignIn(Given):
    email: Email
    password: Password


class Refresh(Given):
    refresh_token: Shown


class TokensShape(BaseModel):
    """Tokens, as OAuth writes them."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a word of the protocol
    expires_in: int = Field(description="Seconds until the access token ends.")
    refresh_token: str | None = Field(None, description="To be used once; its answer holds the next one.")
    scope: str
    id_token: str | None = None


class PersonGiven(Given):
    email: Email
    name: Name
    password: Password


class UserGiven(PersonGiven):
    role: RoleName = "user"


class UserChanged(Given):
    email: Email | None = None
    name: Name | None = None
    role: RoleName | None = None
    is_active: bool | None = None
    password: Password | None = None
    current_password: Password | None = Field(None, description="Needed to change one's own password.")


class UserShape(BaseModel):
    id: str
    object: Literal["user"] = "user"
    tenant: str
    email: str
    name: str
    role: RoleName
    is_active: bool
    created_at: int


class TenantGiven(BoundsGiven):
    name: Name
    limits: Limits = Limits()
    owner: PersonGiven


class TenantChanged(BoundsGiven):
    name: Name | None = None
    limits: Limits | None = None


class TenantShape(BaseModel):
    id: str
    object: Literal["tenant"] = "tenant"
    name: str
    is_operator: bool = Field(description="Whether this tenant runs the installation.")
    limits: Limits
    priority_max: PriorityName = Field(description="The highest that its calls may ask for.")
    local_only: bool = Field(description="Whether its calls never leave this installation.")
    sensitivity: SensitivityName = Field(description="How late its calls leave, at least.")
    created_at: int


class ApplicationGiven(Given):
    name: Name
    scopes: ScopeNames
    redirect_uris: Annotated[
        list[Annotated[str, Field(max_length=REDIRECT_CHARACTERS_MAX)]], Field(max_length=REDIRECTS_MAX)
    ] = []
    is_confidential: bool = Field(True, description="Whether it can keep a secret.")


class ApplicationChanged(Given):
    name: Name | None = None
    scopes: ScopeNames | None = None
    redirect_uris: (
        Annotated[list[Annotated[str, Field(max_length=REDIRECT_CHARACTERS_MAX)]], Field(max_length=REDIRECTS_MAX)]
        | None
    ) = None
    renew_secret: bool = False


class ApplicationShape(BaseModel):
    id: str = Field(description="OAuth's client_id.")
    object: Literal["application"] = "application"
    tenant: str
    name: str
    scopes: list[str]
    redirect_uris: list[str]
    is_confidential: bool
    created_at: int
    client_secret: str | None = Field(None, description="Only when it was just made; never seen again.")


class KeyGiven(StandingGiven):
    name: Name
    scopes: ScopeNames = ["inference"]
    owner: Id | None = Field(None, description="A user or application; yourself when not given.")
    expires_at: Moment | None = None
    limits: Limits = Limits()


class KeyChanged(StandingGiven):
    name: Name | None = None
    scopes: ScopeNames | None = None
    expires_at: Moment | None = None
    limits: Limits | None = None


class KeyShape(BaseModel):
    id: str
    object: Literal["api_key"] = "api_key"
    tenant: str
    owner: str
    name: str
    hint: str = Field(description="Its last characters.")
    scopes: list[str]
    limits: Limits
    priority: PriorityName
    priority_max: PriorityName
    local_only: bool
    sensitivity: SensitivityName
    created_at: int
    expires_at: float | None
    last_used_at: int | None
    key: str | None = Field(None, description="Only when it was just made; never seen again.")


class DeviceAnswer(Given):
    user_code: Annotated[str, Field(min_length=1, max_length=32)]
    allow: bool


class DeviceAnswered(BaseModel):
    allowed: bool


class Removed(BaseModel):
    id: str
    deleted: Literal[True] = True


class Myself(BaseModel):
    """Who this key or token belongs to, and what it may do today."""

    id: str
    tenant: str
    role: RoleName | None
    scopes: list[str]


def user_shape(user: User) -> UserShape:
    return UserShape(
        id=user.id, tenant=user.tenant, email=user.email, name=user.name, role=role_name(user.role), is_active=user.is_active,
        created_at=int(user.created_at),
    )  # fmt: skip


def role_name(role: Role) -> RoleName:
    names: dict[Role, RoleName] = {
        Role.OWNER: "owner", Role.ADMIN: "admin", Role.DEVELOPER: "developer", Role.USER: "user", Role.VIEWER: "viewer",
    }  # fmt: skip
    return names[role]


def priority_name(priority: Priority) -> PriorityName:
    names: dict[Priority, PriorityName] = {
        Priority.INTERACTIVE: "interactive", Priority.STANDARD: "standard", Priority.BATCH: "batch",
    }  # fmt: skip
    return names[priority]


def sensitivity_name(sensitivity: Sensitivity) -> SensitivityName:
    names: dict[Sensitivity, SensitivityName] = {
        Sensitivity.PUBLIC: "public", Sensitivity.INTERNAL: "internal", Sensitivity.CONFIDENTIAL: "confidential",
    }  # fmt: skip
    return names[sensitivity]


def tenant_shape(tenant: Tenant) -> TenantShape:
    return TenantShape(
        id=tenant.id, name=tenant.name, is_operator=tenant.is_operator, limits=limits_of(tenant.allowances),
        created_at=int(tenant.created_at), priority_max=priority_name(tenant.bounds.priority_max),
        local_only=tenant.bounds.local_only, sensitivity=sensitivity_name(tenant.bounds.sensitivity),
    )  # fmt: skip


def application_shape(one: Application, secret: str | None = None) -> ApplicationShape:
    return ApplicationShape(
        id=one.id, tenant=one.tenant, name=one.name, scopes=sorted(one.scopes), redirect_uris=list(one.redirect_uris),
        is_confidential=one.secret_digest is not None, created_at=int(one.created_at), client_secret=secret,
    )  # fmt: skip


def key_shape(key: ApiKey, shown: str | None = None) -> KeyShape:
    used = None if key.last_used_at is None else int(key.last_used_at)
    return KeyShape(
        id=key.id, tenant=key.tenant, owner=key.owner, name=key.name, hint=key.hint, scopes=sorted(key.scopes),
        limits=limits_of(key.allowances), created_at=int(key.created_at), expires_at=key.expires_at, last_used_at=used, key=shown,
        priority=priority_name(key.standing.priority), priority_max=priority_name(key.standing.priority_max),
        local_only=key.standing.local_only, sensitivity=sensitivity_name(key.standing.sensitivity),
    )  # fmt: skip
