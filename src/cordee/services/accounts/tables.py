"""The tables of accounts, as the newest revision in migrations/ leaves them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

from cordee.services.base.database import IDENTIFIER
from cordee.services.base.outbox import tables as outbox_tables

DIGEST = String(64)
TIME = Float(53)
NAMES = {"ix": "ix_%(table_name)s_%(column_0_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s",
         "fk": "fk_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s", "ck": "ck_%(table_name)s_%(constraint_name)s"}  # fmt: skip

metadata = MetaData(naming_convention=NAMES)


def _id() -> Column[str]:
    return Column("id", IDENTIFIER, primary_key=True)


def _of(name: str, table: str, nullable: bool = False) -> Column[str]:
    return Column(name, IDENTIFIER, ForeignKey(f"{table}.id", ondelete="CASCADE"), nullable=nullable, index=True)


def _time(name: str, nullable: bool = False) -> Column[float]:
    return Column(name, TIME, nullable=nullable)


tenants = Table(
    "tenants", metadata, _id(),
    Column("name", String(128), nullable=False), _time("created_at"),
    Column("is_operator", Boolean, nullable=False), Column("allowances", JSON, nullable=False),
    Column("bounds", JSON(none_as_null=True)),
)  # fmt: skip

users = Table(
    "users", metadata, _id(), _of("tenant_id", "tenants"),
    Column("email", String(254), nullable=False, unique=True), Column("name", String(128), nullable=False),
    Column("role", String(16), nullable=False), Column("password_hash", String(256), nullable=False),
    _time("created_at"), Column("is_active", Boolean, nullable=False),
)  # fmt: skip

applications = Table(
    "applications", metadata, _id(), _of("tenant_id", "tenants"),
    Column("name", String(128), nullable=False), Column("scopes", JSON, nullable=False),
    Column("redirect_uris", JSON, nullable=False), Column("secret_digest", DIGEST), _time("created_at"),
)  # fmt: skip

api_keys = Table(
    "api_keys", metadata, _id(), _of("tenant_id", "tenants"),
    _of("user_id", "users", nullable=True), _of("application_id", "applications", nullable=True),
    Column("name", String(128), nullable=False), Column("digest", DIGEST, nullable=False, unique=True),
    Column("hint", String(8), nullable=False), Column("scopes", JSON, nullable=False), _time("created_at"),
    Column("allowances", JSON, nullable=False), _time("expires_at", nullable=True), _time("last_used_at", nullable=True),
    Column("standing", JSON(none_as_null=True)),
    CheckConstraint("(user_id IS NULL) <> (application_id IS NULL)", name="one_owner"),
)  # fmt: skip

families = Table(
    "families", metadata, _id(), _of("tenant_id", "tenants"), _of("user_id", "users"),
    _of("application_id", "applications", nullable=True), Column("scopes", JSON, nullable=False),
    _time("created_at"), _time("expires_at"), _time("revoked_at", nullable=True),
)  # fmt: skip

refresh_tokens = Table(
    "refresh_tokens", metadata, Column("digest", DIGEST, primary_key=True), _of("family_id", "families"),
    _time("expires_at"), _time("used_at", nullable=True),
)  # fmt: skip

codes = Table(
    "codes", metadata, Column("digest", DIGEST, primary_key=True), _of("user_id", "users"),
    _of("application_id", "applications"), Column("redirect_uri", String(512), nullable=False),
    Column("challenge", String(64), nullable=False), Column("scopes", JSON, nullable=False), Column("nonce", String(256)),
    _time("expires_at"), Column("family_id", IDENTIFIER), _time("used_at", nullable=True),
)  # fmt: skip

devices = Table(
    "devices", metadata, Column("digest", DIGEST, primary_key=True), Column("user_code", String(16), nullable=False, unique=True),
    _of("application_id", "applications", nullable=True), Column("scopes", JSON, nullable=False), _time("expires_at"),
    _time("polled_at", nullable=True), Column("is_allowed", Boolean), _of("user_id", "users", nullable=True),
)  # fmt: skip

# Who a person is at a provider: by its issuer, so that one of another issuer under the same name in the configuration is nobody here.
outside_identities = Table(
    "outside_identities", metadata, Column("issuer", String(512), primary_key=True),
    Column("subject", String(255), primary_key=True), _of("user_id", "users"), _time("created_at"),
)  # fmt: skip

# Signing in at a provider: first under the digest of its state, without a user; then, until the person answers, under that of a ticket.
outside_sign_ins = Table(
    "outside_sign_ins", metadata, Column("digest", DIGEST, primary_key=True), Column("provider", String(64), nullable=False),
    Column("browser", DIGEST, nullable=False), Column("asked", JSON, nullable=False), _time("expires_at"),
    _of("user_id", "users", nullable=True),
)  # fmt: skip

failures = Table(
    "login_failures", metadata, Column("digest", DIGEST, primary_key=True), Column("failures", Integer, nullable=False),
    _time("last_at"), _time("shut_until"),
)  # fmt: skip

signing_keys = Table(
    "signing_keys", metadata, Column("kid", String(64), primary_key=True), _time("signs_from"),
    Column("sealed", LargeBinary, nullable=False), Column("public", JSON, nullable=False),
)  # fmt: skip

changes = Table(
    "changes", metadata, Column("kind", String(16), primary_key=True), Column("name", IDENTIFIER, primary_key=True),
    Column("revision", BigInteger, nullable=False, index=True), _time("at"),
)  # fmt: skip

feed_clock = Table(
    "feed_clock", metadata, Column("id", Integer, primary_key=True, autoincrement=False), Column("epoch", String(64), nullable=False),
    Column("revision", BigInteger, nullable=False), Column("floor", BigInteger, nullable=False),
)  # fmt: skip

for _table, _column in ((families, "expires_at"), (refresh_tokens, "expires_at"), (codes, "expires_at"),
                        (devices, "expires_at"), (outside_sign_ins, "expires_at"), (failures, "last_at")):  # fmt: skip
    Index(f"ix_{_table.name}_{_column}", _table.c[_column])

outbox, outbox_lease = outbox_tables(metadata)
