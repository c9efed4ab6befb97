"""What every service says alike when somebody leaves: it is asked to erase what is theirs, and hands it out to them as lines of JSON.

Decides how the two look on the wire; what belongs to somebody is for each service to know.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from cordee.services.base.database import ID_CHARACTERS
from cordee.services.base.principal import Principal

JSON_LINES = "application/jsonl"
# Names of tenants and users come from accounts or from the key file, which has its own way; PostgreSQL keeps no text with a NUL in it.
PATTERN = r"^[^\x00-\x1f\x7f]+$"
Name = Annotated[str, Field(min_length=1, max_length=ID_CHARACTERS, pattern=PATTERN)]
HANDED_OUT: dict[int | str, dict[str, Any]] = {
    200: {"description": "JSON Lines.", "content": {JSON_LINES: {"schema": {"type": "string"}}}}
}  # of an endpoint's description


OTHERS = "users.write"  # for what belongs to somebody else of the tenant, beside what one needs for one's own


class ErasureGiven(BaseModel):
    """Whose: a tenant's, or one user's or application's in it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tenant: Name
    user: Name | None = None


class Erased(BaseModel):
    """A piece was erased."""

    done: bool = Field(description="Whether nothing is left; ask again until it is so.")


def whose(asking: Principal, user: str | None, scope: str) -> str:
    """The user or application whose belongings are handed out: oneself, unless another is asked for and may be. `scope`: what reading one's
    own needs. Raises Problem."""
    asking.need(scope)
    if user is None or user == asking.subject:
        return asking.subject
    asking.need(OTHERS)
    return user


def handed_out(lines: AsyncGenerator[bytes], service: str) -> StreamingResponse:
    """`lines` as a file to be saved, kept by nobody on the way, and closed when whoever asked goes before the end."""
    headers = {
        "cache-control": "no-store",
        "content-disposition": f'attachment; filename="{service}.jsonl"',
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(_closed(lines), media_type=JSON_LINES, headers=headers)


async def _closed(lines: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    async with aclosing(lines) as left:
        async for line in left:
            yield line
