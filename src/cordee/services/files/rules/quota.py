"""What a tenant may have at once."""

from __future__ import annotations

from cordee.config.sections.services import Files
from cordee.services.base.errors import Problem

CODE = "quota_exceeded"


def within(settings: Files, size: int, count: int, param: str) -> None:
    """Raises Problem (403) where `count` files with `size` bytes together are more than a tenant may have."""
    if settings.tenant_files_max and count > settings.tenant_files_max:
        most = settings.tenant_files_max
        raise Problem(403, f"{param}: this tenant may have {most} files at once; delete some first.", param, CODE)
    if settings.tenant_bytes_max and size > settings.tenant_bytes_max:
        raise over_bytes(settings, param)


def over_bytes(settings: Files, param: str) -> Problem:
    return Problem(
        403, f"{param}: this tenant's files may hold {settings.tenant_bytes_max} bytes together, and this one would go beyond "
        f"that; delete some first.", param, CODE,
    )  # fmt: skip
