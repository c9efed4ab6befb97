"""Port Directory over all there is to show: keys of the key file, keys and access tokens of accounts. Answers from memory.

A key is hashed and looked up, as in `keys.py`. A token is verified once and remembered under the SHA-256 of all of it, never of a part;
only what was verified is remembered, so a million wrong ones occupy no memory and displace nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

from cordee.adapters.keys import KEY_CHARACTERS_MAX, FileDirectory
from cordee.adapters.known import Known
from cordee.adapters.tokens import TOKEN_BYTES_MAX, Claims, Verifier
from cordee.domain.caller import Caller
from cordee.policy.session import SignIn
from cordee.wire.credentials import OWN_CLIENT

KEY_PREFIX = b"sk-cordee-"
ENDED_MAX = 100_000  # sign-ins that have ended, where the configuration says nothing
TOKEN_PREFIX = b"eyJ"  # how a JSON object begins in base64url


class Credentials:
    """One thread. `refresh` about once a second, by its owner; `known` is replaced or changed by whoever follows accounts. `tokens_max`:
    verified tokens that are remembered; `ended_max`: see adapters.known. `wall`: seconds of the epoch."""

    def __init__(
        self, files: FileDirectory, tokens_max: int, wall: Callable[[], float] = time.time, ended_max: int = ENDED_MAX
    ) -> None:
        self.known = Known(ended_max)
        self._files = files
        self._tokens_max = tokens_max
        self._wall = wall
        self._tokens: dict[bytes, tuple[Claims, Caller | None, Verifier, int]] = {}
        self._seen: tuple[Known, int] = (self.known, 0)
        self._expires_at: float | None = None

    def identify(self, key: bytes) -> Caller | None:
        """Who shows `key`; None for nobody."""
        if key.startswith(KEY_PREFIX):
            found = self._by_key(key)
        elif key.startswith(TOKEN_PREFIX):
            found = self._by_token(key)
        else:
            return self._files.identify(key)
        return self._files.identify(key) if found is None else found

    def holder(self, key_id: str) -> tuple[Caller, str] | None:
        """Of a key, or of a user or application as such: who it is as of now, and a mark that another key, or the same user with
        another password, would not have."""
        caller = self.known.of_key(key_id, self._wall())
        if caller is not None:
            return caller, caller.grant
        return self.known.of_principal(key_id) or self._files.holder(key_id)

    def sign_in(self, token: bytes, scopes: frozenset[str], now: float) -> SignIn | None:
        """See ports.People."""
        if not token.startswith(TOKEN_PREFIX) or len(token) > TOKEN_BYTES_MAX:
            return None
        claims = self.known.verifier.read(token, self._wall())
        if claims is None or not claims.family or claims.client != OWN_CLIENT:
            return None
        return SignIn(claims.family, scopes & claims.scopes, self.known.knows_since(now) or 0.0)

    def signed_in(self, user: str, sign_in: SignIn, began_s: float) -> tuple[Caller, str] | None:
        """See ports.People."""
        return self.known.of_sign_in(user, sign_in, began_s, self._wall())

    def still(self, caller: Caller) -> Caller | None:
        """Who `caller` is now that was identified earlier; None where the key, the signing in or the user is gone."""
        of_key = self.known.of_key(caller.key_id, self._wall())
        if of_key is not None:
            return of_key if of_key.grant == caller.grant else None
        principal = self.known.of_principal(caller.key_id)
        if principal is not None:
            return None if self.known.has_ended(caller.grant) else principal[0]
        return self._files.still(caller)

    def refresh(self) -> bool:
        """Read again what changed on disk; True if anybody may have gone since the last time, here or there."""
        now, seen = self._wall(), (self.known, self.known.version)
        has_changed = self._files.refresh()
        if seen != self._seen or (self._expires_at is not None and now >= self._expires_at):
            self._seen, has_changed = seen, True
            self._expires_at = self.known.next_expiry(now)
            self._tokens = {mark: held for mark, held in self._tokens.items() if held[0].ends_s > now}
        return has_changed

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._files) + len(self.known)

    def _by_key(self, key: bytes) -> Caller | None:
        if len(key) > KEY_CHARACTERS_MAX:
            return None
        asked = hashlib.sha256(key)
        found = self.known.digests.get(asked.digest())
        if found is None or not hmac.compare_digest(found.digest, asked.hexdigest()):
            return None
        return self.known.of_key(found.id, self._wall())

    def _by_token(self, token: bytes) -> Caller | None:
        if len(token) > TOKEN_BYTES_MAX:
            return None
        now, known, mark = self._wall(), self.known, hashlib.sha256(token).digest()
        held = self._tokens.get(mark)
        if held is None or held[2] is not known.verifier:  # with other signing keys it is looked at anew
            claims = known.verifier.read(token, now)
            if claims is None:
                self._tokens.pop(mark, None)
                return None
            if len(self._tokens) >= self._tokens_max:
                del self._tokens[next(iter(self._tokens))]
        elif held[0].ends_s <= now:
            del self._tokens[mark]
            return None
        elif held[3] == known.version:
            return held[1]
        else:
            claims = held[0]
        caller = known.of_claims(claims)
        self._tokens[mark] = claims, caller, known.verifier, known.version
        return caller
