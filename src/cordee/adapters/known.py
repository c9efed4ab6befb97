"""Who there is, as accounts have told so far: what a gateway knows of keys, users, applications, tenants and signings in that have ended.

Changed by whole pages, read by `credentials.py`. A key is worth what its owner is: without the owner it is nobody's.
"""

from __future__ import annotations

from cordee.adapters.key_file import mark
from cordee.adapters.tokens import Claims, Verifier
from cordee.domain.caller import ORDINARY, UNLIMITED, Allowances, Caller, Standing
from cordee.policy.session import SignIn
from cordee.wire.credentials import Ended, Key, Page, Principal, SigningKey, Tenant


class Known:
    """`version` changes with every page that says something; `signing_keys` may change without.

    Of sign-ins that have ended `ended_max` are known one by one, and beside those all whose tokens may still be in force. When there are
    more, the oldest are dropped, and all sessions of sign-ins that began before the last dropped one's tokens were over have ended:
    nobody keeps a session whose sign-in may have ended unknown."""

    def __init__(self, ended_max: int) -> None:
        self.epoch = ""
        self.revision = 0
        self.since = 0  # the newest revision when the first page came: what was gone by then was never known here
        self.version = 0
        self.verifier = Verifier("", "", ())
        self.digests: dict[bytes, Key] = {}
        self.ended_max = ended_max
        self._ended_kept_s = 0.0
        self._sessions_since_s = 0.0
        self._issuer = self._audience = ""
        self._signing_keys: list[SigningKey] = []
        self._keys: dict[str, Key] = {}
        self._principals: dict[str, Principal] = {}
        self._tenants: dict[str, Tenant] = {}
        self._ended: dict[str, float] = {}
        self._owned: dict[str, set[str]] = {}
        self._callers: dict[str, Caller | None] = {}

    def take(self, page: Page, now: float) -> None:
        """What the page says holds from now on."""
        if (page.issuer, page.audience, page.signing_keys) != (self._issuer, self._audience, self._signing_keys):
            self._issuer, self._audience, self._signing_keys = page.issuer, page.audience, page.signing_keys
            self.verifier = Verifier(page.issuer, page.audience, page.signing_keys)
        self.epoch, self.revision = page.epoch, page.revision
        if page.after == 0:
            self.since = page.newest
        if page.ended_kept_s < self._ended_kept_s:  # what was to be told for longer may be forgotten from now on
            self._sessions_since_s = max(self._sessions_since_s, now)
        self._ended_kept_s = page.ended_kept_s
        self._sessions_since_s = max(self._sessions_since_s, page.sessions_since_s)
        is_too_much = len(self._ended) > self.ended_max
        if not (page.keys or page.principals or page.tenants or page.ended or page.gone or is_too_much):
            return
        self.version += 1
        self._callers.clear()
        for tenant in page.tenants:
            self._tenants[tenant.id] = tenant
        for principal in page.principals:
            self._principals[principal.id] = principal
        for key in page.keys:
            self._drop_key(key.id)
            self._keys[key.id] = self.digests[bytes.fromhex(key.digest)] = key
            self._owned.setdefault(key.owner, set()).add(key.id)
        for name in page.gone:
            self._drop(name)
        self._ended.update({one.family: one.until for one in page.ended})
        if page.ended or is_too_much:
            self._forget_ended(now)

    def anew(self) -> Known:
        """With nothing in it, for all to be told again. What may have been forgotten stays so."""
        made = Known(self.ended_max)
        made._sessions_since_s = self._sessions_since_s
        return made

    def whole(self) -> Page:
        """All of it, as one page."""
        return Page(
            self.epoch, 0, self.revision, self._issuer, self._audience, max(self.since, self.revision),
            signing_keys=self._signing_keys, keys=list(self._keys.values()), principals=list(self._principals.values()),
            tenants=list(self._tenants.values()),
            ended=[Ended(family, until) for family, until in self._ended.items()],
            ended_kept_s=self._ended_kept_s, sessions_since_s=self._sessions_since_s,
        )  # fmt: skip

    def next_expiry(self, now: float) -> float | None:
        """When the next key ends by itself."""
        return min(
            (one.expires_at for one in self._keys.values() if one.expires_at and one.expires_at > now), default=None
        )

    def of_key(self, key_id: str, now: float) -> Caller | None:
        """Whom a key stands for; None where it is none, or not in force."""
        key = self._keys.get(key_id)
        if key is None or (key.expires_at is not None and key.expires_at <= now):
            return None
        if key_id not in self._callers:
            self._callers[key_id] = self._of_key(key)
        return self._callers[key_id]

    def of_principal(self, name: str) -> tuple[Caller, str] | None:
        """A user or an application as such, and the mark of its password or secret; None where there is none in force."""
        found = self._principals.get(name)
        if found is None or not found.is_active:
            return None
        caller = self._callers.get(name)
        if caller is None:
            caller = self._callers[name] = self._of(found, frozenset(found.scopes), "")
        return caller, found.mark

    def of_claims(self, claims: Claims) -> Caller | None:
        """Whom a token stands for today."""
        found = self._principals.get(claims.subject)
        if found is None or not found.is_active or found.tenant != claims.tenant or claims.family in self._ended:
            return None
        return self._of(found, claims.scopes & frozenset(found.scopes), claims.family)

    def has_ended(self, family: str) -> bool:
        return family in self._ended

    def knows_since(self, began_s: float) -> float | None:
        """Until when it will be known here if a sign-in has ended of which a session began at `began_s`; None if it may have ended
        unknown."""
        return began_s + self._ended_kept_s if began_s > self._sessions_since_s else None

    def of_sign_in(self, user: str, sign_in: SignIn, began_s: float, now: float) -> tuple[Caller, str] | None:
        """See ports.People.signed_in."""
        found, until_s = self._principals.get(user), self.knows_since(began_s)
        if found is None or not found.is_active or until_s is None or until_s <= now or sign_in.id in self._ended:
            return None
        return self._of(found, sign_in.scopes & frozenset(found.scopes), sign_in.id), found.mark

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._keys)

    def _forget_ended(self, now: float) -> None:
        """What nobody has to know any more, and beyond the bound the oldest: a tenth at once, so that it is rare."""
        kept = {family: until for family, until in self._ended.items() if until + self._ended_kept_s > now}
        if len(kept) > self.ended_max:
            spare = len(kept) - self.ended_max * 9 // 10
            oldest = sorted((until, family) for family, until in kept.items() if until <= now)[:spare]
            for until, family in oldest:
                del kept[family]
                self._sessions_since_s = max(self._sessions_since_s, until)
        self._ended = kept

    def _of_key(self, key: Key) -> Caller | None:
        owner = self._principals.get(key.owner)
        if owner is None or not owner.is_active or owner.tenant != key.tenant:
            return None
        scopes = frozenset(key.scopes) & frozenset(owner.scopes)
        grant = mark(bytes.fromhex(key.digest))
        return self._caller(key.id, owner, scopes, grant, key.limits, key.standing)

    def _of(self, found: Principal, scopes: frozenset[str], grant: str) -> Caller:
        return self._caller(found.id, found, scopes, grant, UNLIMITED, ORDINARY)

    def _caller(
        self, name: str, owner: Principal, scopes: frozenset[str], grant: str, limits: Allowances, standing: Standing
    ) -> Caller:
        tenant = self._tenants.get(owner.tenant) or Tenant(owner.tenant)
        stands = standing.within(tenant.bounds)
        return Caller(
            name, owner.tenant, scopes, limits, tenant.limits, stands.priority, stands.priority_max, stands.local_only,
            stands.sensitivity, stands.region, owner.id, grant,
        )  # fmt: skip

    def _drop(self, name: str) -> None:
        self._drop_key(name)
        if self._principals.pop(name, None) is not None:
            for key_id in list(self._owned.get(name, ())):
                self._drop_key(key_id)
        if self._tenants.pop(name, None) is not None:
            for principal in [one.id for one in self._principals.values() if one.tenant == name]:
                self._drop(principal)

    def _drop_key(self, key_id: str) -> None:
        key = self._keys.pop(key_id, None)
        if key is None:
            return
        self.digests.pop(bytes.fromhex(key.digest), None)
        owned = self._owned[key.owner]
        owned.discard(key_id)
        if not owned:
            del self._owned[key.owner]
