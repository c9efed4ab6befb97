"""Where a service keeps its data, how its events leave it, and what accounts are allowed. See docs/accounts.md."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from cordee.config.sections.base import Count, Positive, Section

ISSUER_PATTERN = r"^https?://[0-9A-Za-z.:\[\]-]{1,253}(/[0-9A-Za-z._~/-]{0,200})?$"


class DatabaseSettings(Section, frozen=True):
    """One service's database: a SQLite file in the data directory, or a PostgreSQL."""

    url: Annotated[str, Meta(pattern=r"^($|postgresql://).*", max_length=4096)] = (
        ""  # postgresql://USER:PASSWORD@HOST/DATABASE; "": a SQLite file in the data directory
    )
    connections_max: Annotated[int, Meta(ge=1, le=1000)] = 8  # open at once, of one process
    wait_s: Positive = 5.0  # for a connection, for a lock of another writer, and for the server to accept
    statement_s: Positive = 10.0  # for one statement (PostgreSQL)
    migrate_wait_s: Positive = 60.0  # for another process that is migrating


class OutboxSettings(Section, frozen=True):
    """How the events of a service reach their broker."""

    poll_s: Positive = 1.0  # between two looks when nobody said that there is something
    batch_max: Annotated[int, Meta(ge=1, le=10_000)] = 100  # events read at once
    publish_s: Positive = 10.0  # for one event to be taken by the broker
    lease_s: Positive = 30.0  # after this silence of a relay another process takes over
    kept_s: Annotated[float, Meta(ge=0, le=366 * 86_400)] = 7 * 86_400.0  # sent events are deleted after this


class Passwords(Section, frozen=True):
    """What a password must be, and what checking one costs (Argon2id)."""

    length_min: Annotated[int, Meta(ge=8, le=128)] = 12  # characters
    memory_kib: Annotated[int, Meta(ge=8, le=4_194_304)] = 65_536
    passes: Annotated[int, Meta(ge=1, le=100)] = 3
    lanes: Annotated[int, Meta(ge=1, le=64)] = 4
    threads: Annotated[int, Meta(ge=1, le=64)] = 2  # checks at once, of one process
    waiting_max: Annotated[int, Meta(ge=0, le=10_000)] = (
        64  # checks that wait for a thread; more are told to come again
    )


class Lockout(Section, frozen=True):
    """What wrong passwords for one address lead to."""

    free: Annotated[int, Meta(ge=1, le=100)] = 5  # wrong ones without any delay
    delay_s: Positive = 1.0  # after the next one; doubled by each further one
    delay_s_max: Positive = 900.0
    forgotten_s: Positive = 86_400.0  # after this long without a wrong one
    addresses_max: Annotated[int, Meta(ge=100, le=10_000_000)] = 100_000  # remembered; the oldest go first


class Tokens(Section, frozen=True):
    """How long tokens and codes hold."""

    access_s: Annotated[int, Meta(ge=30, le=86_400)] = 600
    refresh_s: Annotated[int, Meta(ge=60, le=366 * 86_400)] = 30 * 86_400  # after the last use
    family_s: Annotated[int, Meta(ge=60, le=3 * 366 * 86_400)] = (
        90 * 86_400
    )  # after signing in, however often refreshed
    code_s: Annotated[int, Meta(ge=10, le=600)] = 60  # an authorization code
    device_s: Annotated[int, Meta(ge=60, le=3600)] = 600  # a device code
    device_poll_s: Annotated[int, Meta(ge=1, le=60)] = 5  # between two questions of a device
    key_signs_s: Annotated[int, Meta(ge=60, le=366 * 86_400)] = 30 * 86_400  # a signing key; then a new one takes over
    key_published_s: Annotated[int, Meta(ge=0, le=86_400)] = (
        3600  # before it signs, and after the last token it signed has expired
    )


class Chats(Section, frozen=True):
    """Responses and conversations."""

    database: DatabaseSettings = DatabaseSettings()
    outbox: OutboxSettings = OutboxSettings()


class Files(Section, frozen=True):
    """Files and uploads."""

    database: DatabaseSettings = DatabaseSettings()
    outbox: OutboxSettings = OutboxSettings()


class Batches(Section, frozen=True):
    """Batches, and other long work."""

    database: DatabaseSettings = DatabaseSettings()
    outbox: OutboxSettings = OutboxSettings()


class Webhooks(Section, frozen=True):
    """What is sent to the servers of users when something has ended."""

    database: DatabaseSettings = DatabaseSettings()
    outbox: OutboxSettings = OutboxSettings()


class Events(Section, frozen=True):
    """The broker that services tell each other through."""

    url: Annotated[str, Meta(pattern=r"^($|amqps?://|kafka://|rediss?://|valkeys?://).*", max_length=4096)] = (
        ""  # amqp://, kafka:// or redis://; "": within the process
    )


class Accounts(Section, frozen=True):
    """The accounts service."""

    issuer: Annotated[str, Meta(pattern=ISSUER_PATTERN, max_length=512)] = (
        "http://127.0.0.1:8000"  # the address under which clients reach it, without a slash at the end
    )
    audience: Annotated[str, Meta(min_length=1, max_length=256)] = "cordee"  # whom access tokens are for
    body_bytes_max: Annotated[int, Meta(ge=1024, le=16_777_216)] = 65_536  # of a request
    page_max: Annotated[int, Meta(ge=1, le=1000)] = 100  # entries of one page
    keys_per_owner_max: Count = 100  # API keys in force of one user or application
    applications_per_tenant_max: Count = 1000
    key_use_noted_s: Positive = 60.0  # the last use of a key is written down this often at most
    database: DatabaseSettings = DatabaseSettings()
    outbox: OutboxSettings = OutboxSettings()
    passwords: Passwords = Passwords()
    lockout: Lockout = Lockout()
    tokens: Tokens = Tokens()


class Services(Section, frozen=True):
    """The services behind the gateways: accounts, chats, files, batches, webhooks."""

    enabled: bool = True
    per_server: Annotated[int, Meta(ge=1, le=16)] = 1  # processes, each with all services
    accounts: Accounts = Accounts()
    chats: Chats = Chats()
    files: Files = Files()
    batches: Batches = Batches()
    webhooks: Webhooks = Webhooks()
    events: Events = Events()
