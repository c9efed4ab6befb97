"""A service's description says what its handlers answer: a 400 with our error object, never FastAPI's own 422."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from cordee.services.base.errors import ErrorBody

_FASTAPIS_OWN = "HTTPValidationError"
_SCHEMA = "#/components/schemas/{model}"


def describe(app: FastAPI) -> None:
    """Make `app.openapi` leave out the answers that never come. The description is made when it is first asked for."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = plain()
            for path in made["paths"].values():
                for operation in path.values():
                    if _FASTAPIS_OWN in str(operation["responses"].get("422")):
                        del operation["responses"]["422"]
            schemas: dict[str, Any] = made["components"]["schemas"]
            for name in (_FASTAPIS_OWN, "ValidationError"):
                schemas.pop(name, None)
            error = ErrorBody.model_json_schema(ref_template=_SCHEMA, mode="serialization")
            schemas |= error.pop("$defs") | {ErrorBody.__name__: error}
        assert app.openapi_schema is not None, "FastAPI keeps what it made"
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's documented way to change the description
