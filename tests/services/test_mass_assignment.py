"""Nobody says in a body what is not theirs to say: whose something is, what one is, and what one may use.

Read from the descriptions that the services publish of themselves, so an endpoint of tomorrow is looked at, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cordee.compose.service_apps import maker, those_there
from cordee.config.tree import Config
from cordee.domain.passages import Service
from tests.services.accounts.serving import ground

THEIRS = frozenset(
    {
        *(
            "tenant",
            "tenant_id",
            "organization",
            "owner_id",
            "user_id",
            "subject",
            "role",
            "is_admin",
            "is_operator",
            "is_active",
        ),
        *("scopes", "quota", "limits", "allowances", "balance", "digest", "hint", "created_at", "status", "object"),
    }
)
# What accounts are there for: each of these asks for a right of its own, which the tests of accounts are about.
MEANT = {(Service.ACCOUNTS, name) for name in ("role", "is_active", "scopes", "limits")}


def bodies(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and schema of each body that is described."""
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield path, method, _resolved(description, content.get("schema", {}))


def _resolved(description: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        found: Any = description
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        schema = found
    return schema


@pytest.mark.parametrize("service", those_there(), ids=lambda service: service.value)
def test_no_body_takes_what_is_not_the_callers_to_say(service: Service, tmp_path: Path):
    app: Any = maker(Config(), service, ground(tmp_path))()
    # What a tenant leaves is erased by the installation itself, which says whose it is.
    found = [one for one in bodies(app.openapi()) if not one[0].endswith("/erasures")]
    assert found
    for path, method, schema in found:
        names = set(schema.get("properties", ()))
        strange = {name for name in names & THEIRS if (service, name) not in MEANT}
        assert not strange, f"{method} {path} takes {strange}"
