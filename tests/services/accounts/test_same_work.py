"""Nobody learns from how long a refusal takes who there is: the same work is done whatever is wrong.

What is compared here is the work, not the time; that of keys at gateways is measured in tests/rehearsal/test_key_timing.py.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from sqlalchemy import event

from cordee.services.accounts import secrets_made
from tests.services.accounts.conftest import OWNER, PASSWORD, House

pytestmark = pytest.mark.anyio
WRONG = "wrong password"


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What each check of a password has cost, and of which."""
    seen: list[tuple[str, str]] = []
    real = PasswordHasher.verify

    def verify(self: PasswordHasher, stored: str, password: str) -> Any:
        seen.append((repr(extract_parameters(stored)), password))
        return real(self, stored, password)

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    return seen


async def test_an_unknown_address_costs_the_same_hashing_as_a_wrong_password(
    house: House, verified: list[tuple[str, str]]
):
    owner = await house.token()
    away = await house.add(owner, "away@example.com")
    await house.ok("POST", f"/v1/users/{away['id']}", owner, {"is_active": False})
    verified.clear()
    for email, password in (
        (OWNER, WRONG), ("nobody@example.com", WRONG), ("no address at all", WRONG), ("away@example.com", PASSWORD),
    ):  # fmt: skip
        answer = await house.ask("POST", "/v1/auth/login", body={"email": email, "password": password})
        assert answer.status_code == 401
    assert [password for _, password in verified] == [WRONG, WRONG, WRONG, PASSWORD]
    assert len({cost for cost, _ in verified}) == 1


async def test_a_key_is_looked_up_by_the_hash_of_all_of_it_and_by_nothing_else(house: House):
    """However much of a key is right, its hash is another one: how long the lookup takes says nothing of keys there are."""
    key = str((await house.ok("POST", "/v1/api_keys", await house.token(), {"name": "k"}))["key"])
    asked: list[Any] = []
    engine = house.database.engine.sync_engine

    def note(_on: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if "api_keys" in statement and "changes" not in statement:  # old ones are looked for unasked
            asked.append(tuple(parameters))

    event.listen(engine, "before_cursor_execute", note)
    random = secrets_made.make(secrets_made.API_KEY)
    almost = key[:-1] + ("A" if key[-1] != "A" else "B")
    for shown in (random, almost, key.upper(), f"{key}x"):
        assert (await house.ask("GET", "/v1/auth/me", shown)).status_code == 401
    # One in other letters does not even begin like a key.
    assert asked == [(hashlib.sha256(shown.encode()).hexdigest(),) for shown in (random, almost, f"{key}x")]


async def test_a_key_is_the_same_wherever_it_is_shown_and_two_are_refused(house: House):
    owner = await house.token()
    key, other = [(await house.ok("POST", "/v1/api_keys", owner, {"name": "k"}))["key"] for _ in range(2)]

    async def me(query: str = "", **shown: str) -> tuple[int, Any]:
        headers = {name.replace("_", "-"): value for name, value in shown.items()}
        answer = await house.client.get(f"/v1/auth/me{query}", headers=headers)
        return answer.status_code, answer.json()

    status, who = await me(authorization=f"Bearer {key}")
    assert (status, who["scopes"]) == (200, ["inference"])
    for shown in ({"x_api_key": key}, {"api_key": key}, {"authorization": f"bearer {key}", "x_api_key": key}):
        assert await me(**shown) == (200, who)
    for shown in (
        {"authorization": f"Bearer {key}", "x_api_key": other}, {"x_api_key": key, "api_key": other},
        {"authorization": f"Bearer {key}", "api_key": "x"},
    ):  # fmt: skip
        status, said = await me(**shown)
        assert (status, said["error"]["param"]) == (400, "Authorization")
        assert key not in str(said)
    assert (await me(authorization=key, x_api_key=key))[0] == 401
    assert (await me(f"?api_key={key}&access_token={key}"))[0] == 401
