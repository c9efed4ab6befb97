"""Where a service keeps its data, how its events leave it, and what accounts are allowed. See docs/accounts.md."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from cordee.config.sections.base import Count, Positive, Section, Share

ISSUER_PATTERN = r"^https?://[0-9A-Za-z.:\[\]-]{1,253}(/[0-9A-Za-z._~/-]{0,200})?$"
# What goes to a provider is worth reading to others, so it goes by https, except within this host.
PROVIDER_PATTERN = r"^(https://[0-9A-Za-z.:\[\]-]{1,253}|http://(127\.0\.0\.1|\[::1\]|localhost)(:[0-9]{1,5})?)(/[0-9A-Za-z._~/-]{0,200})?$"
DOMAIN_PATTERN = r"^(\*|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)$"


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


class InboxSettings(Section, frozen=True):
    """How the events of others reach a service."""

    lease_s: Positive = 15.0  # after this silence of a consumer another process takes over
    tries_max: Annotated[int, Meta(ge=1, le=1000)] = 8  # of one event that cannot be handled; then it is put aside
    retry_s: Positive = 0.5  # before the first repetition; doubled by each further one
    retry_s_max: Positive = 30.0
    kept_s: Annotated[float, Meta(ge=3600, le=366 * 86_400)] = 14 * 86_400.0  # so long an event is known as handled
    parked_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000  # events put aside; the oldest go first


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
    provider_s: Annotated[int, Meta(ge=60, le=3600)] = (
        600  # for signing in at a provider, and again for the answer here
    )
    provider_waiting_max: Annotated[int, Meta(ge=100, le=10_000_000)] = 10_000  # of these; the oldest go first
    key_signs_s: Annotated[int, Meta(ge=60, le=366 * 86_400)] = 30 * 86_400  # a signing key; then a new one takes over
    key_published_s: Annotated[int, Meta(ge=0, le=86_400)] = (
        3600  # before it signs, and after the last token it signed has expired
    )


class Spool(Section, frozen=True):
    """Where answers are recorded on this server's disk while the database is away."""

    bytes_max: Annotated[int, Meta(ge=1_048_576, le=1_099_511_627_776)] = 268_435_456  # on disk, of one process
    segment_bytes: Annotated[int, Meta(ge=65_536, le=1_073_741_824)] = 8_388_608  # a file is closed at this size
    record_s: Positive = 3.0  # an answer is recorded in the database within this time, else on disk
    drain_s: Positive = 1.0  # between two tries to bring what is on disk to the database


class Responses(Section, frozen=True):
    """Responses: how they are stored, and how those in the background are run."""

    body_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 30)] = 16 * 1024 * 1024  # of a request
    chain_max: Annotated[int, Meta(ge=1, le=10_000)] = 256  # responses behind each other by `previous_response_id`
    total_s: Positive = 600.0  # for a whole answer that a client waits for
    streams_max: Annotated[int, Meta(ge=1, le=100_000)] = 4096  # stored answers that one process streams at once
    lease_s: Positive = 15.0  # after this silence a response in the background is gone on with by another process
    abandoned_s: Positive = 60.0  # behind `total_s`: then a response of a server that is gone counts as interrupted
    tidy_s: Positive = 10.0  # between two looks for what dead processes left
    background_max: Annotated[int, Meta(ge=0, le=10_000)] = (
        16  # responses in the background that one process runs at once
    )
    queued_max: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000  # of one tenant, waiting or running
    background_s: Positive = 3600.0  # for a whole answer in the background, its waiting for the gateways included
    begin_s: Annotated[float, Meta(ge=0, le=60)] = (
        0.5  # a stored stream that lasts longer is in the database from then on, before that on this server's disk only
    )
    poll_s: Positive = 0.5  # between two looks for work in the background
    flush_s: Positive = 0.25  # between two times that the events of one in the background are stored
    follow_s: Positive = 0.2  # between two looks for new events on behalf of who follows one
    followers_max: Annotated[int, Meta(ge=1, le=100_000)] = 1024  # of one process
    events_kept_s: Positive = 3600.0  # how long the events of one in the background can be streamed again


class Chats(Section, frozen=True):
    """Responses and conversations."""

    database: DatabaseSettings = DatabaseSettings()
    outbox: OutboxSettings = OutboxSettings()
    responses: Responses = Responses()
    spool: Spool = Spool()
    body_bytes_max: Annotated[int, Meta(ge=65_536, le=268_435_456)] = 33_554_432  # of a request
    items_max: Annotated[int, Meta(ge=100, le=1_000_000)] = 100_000  # ever added to one conversation
    searched_characters: Annotated[int, Meta(ge=1000, le=131_072)] = (
        32_768  # of one message, how much of it search looks through
    )
    title_model: Annotated[str, Meta(max_length=256)] = ""  # asked for titles; "": titles are never made by a model
    title_s: Positive = 20.0  # for that model's answer
    erase_max: Annotated[int, Meta(ge=1, le=10_000)] = 100  # streams erased by one request of an erasure


_SESSION = "AWS_SESSION_TOKEN"


class Bucket(Section, frozen=True):
    """Where the contents of files lie, when not in the data directory: an S3, or a store that speaks like one."""

    url: Annotated[str, Meta(pattern=r"^($|s3://[0-9A-Za-z.-]{3,63}(/[0-9A-Za-z._/-]{0,512})?$)")] = (
        ""  # s3://BUCKET/PREFIX; "": the data directory
    )
    endpoint: Annotated[str, Meta(pattern=r"^($|https?://[0-9A-Za-z.:\[\]-]{1,253}/?$)")] = (
        ""  # of a compatible store; "": Amazon's of the region
    )
    region: Annotated[str, Meta(min_length=1, max_length=64)] = "us-east-1"
    key_id_env: Annotated[str, Meta(max_length=128)] = "AWS_ACCESS_KEY_ID"  # the environment variable with the key's id
    key_env: Annotated[str, Meta(max_length=128)] = "AWS_SECRET_ACCESS_KEY"  # the environment variable with the key
    token_env: Annotated[str, Meta(max_length=128)] = (
        _SESSION  # the environment variable with a session's token, if any
    )
    connect_s: Positive = 5.0  # to reach it
    answer_s: Positive = 60.0  # for one request of at most `piece_mib`
    retries: Annotated[int, Meta(ge=0, le=100)] = 3  # of one request that failed for the store's reasons
    piece_mib: Annotated[int, Meta(ge=5, le=64)] = 5  # sent at once; up to three of these are in memory per upload


class Encryption(Section, frozen=True):
    """How contents are encrypted where they lie: AES-256-GCM, a key for each, sealed with a key of the installation."""

    enabled: bool = True  # for what is written from now on; what is encrypted stays readable
    key_file: Annotated[str, Meta(max_length=4096)] = (
        ""  # 32 bytes; "": services/files.key in the data directory, made at the first start
    )
    key_env: Annotated[str, Meta(max_length=128)] = (
        ""  # the environment variable with the key, 32 bytes in base64; goes before `key_file`
    )
    earlier_key_files: Annotated[tuple[str, ...], Meta(max_length=16)] = ()  # with which older contents were sealed


class Scanner(Section, frozen=True):
    """Who looks for viruses in what is uploaded, while it comes in: a clamd, or a command."""

    clamd: Annotated[str, Meta(pattern=r"^($|unix:/.{1,100}|(\[[0-9a-fA-F:]+\]|[0-9A-Za-z.-]+):[0-9]{1,5}$)")] = (
        ""  # HOST:PORT or unix:PATH, asked with INSTREAM; "": none
    )
    command: Annotated[tuple[str, ...], Meta(max_length=64)] = ()  # reads the content; ends with 0: clean, 1: infected
    is_required: bool = True  # no verdict, no file (503); else a file without a verdict is taken
    answer_s: Positive = 60.0  # for the verdict after the last byte, and for each piece to be taken


class Files(Section, frozen=True):
    """Files and uploads. See docs/files.md."""

    file_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 40)] = 8 << 30  # of one file
    part_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 32)] = 64 << 20  # of one part of an upload
    parts_max: Annotated[int, Meta(ge=1, le=100_000)] = 10_000  # of one upload
    tenant_bytes_max: Annotated[int, Meta(ge=0, le=1 << 50)] = 100 << 30  # of all files of a tenant; 0: no limit
    tenant_files_max: Annotated[int, Meta(ge=0, le=100_000_000)] = 100_000  # of a tenant; 0: no limit
    body_bytes_max: Annotated[int, Meta(ge=1024, le=16_777_216)] = 1_048_576  # of a request that brings no content
    page_max: Annotated[int, Meta(ge=1, le=10_000)] = 10_000  # entries of one page
    transfers_max: Annotated[int, Meta(ge=1, le=10_000)] = 32  # contents coming in at once, of one process
    threads: Annotated[int, Meta(ge=1, le=64)] = 2  # that hash and encrypt, of one process
    upload_s: Positive = 3600.0  # from making an upload to completing it
    ended_upload_kept_s: Positive = 86_400.0  # an upload that has ended can be asked for this long
    batch_file_kept_s: Annotated[int, Meta(ge=3600, le=366 * 86_400)] = (
        30 * 86_400
    )  # files for batches are deleted after this, unless they say otherwise
    writing_s: Annotated[float, Meta(ge=1, le=86_400)] = (
        300.0  # what a process has been writing without a sign of life for so long is removed
    )
    sweep_s: Positive = 60.0  # between two looks for what has expired or was left behind
    swept_max: Annotated[int, Meta(ge=1, le=10_000)] = 200  # files, uploads or contents removed by one look or erasure
    free_bytes_min: Annotated[int, Meta(ge=0, le=1 << 40)] = (
        256 << 20  # left on the data directory's disk; an upload that finds less is refused (507)
    )
    bucket: Bucket = Bucket()
    encryption: Encryption = Encryption()
    scanner: Scanner = Scanner()
    database: DatabaseSettings = DatabaseSettings()
    outbox: OutboxSettings = OutboxSettings()


class Jobs(Section, frozen=True):
    """Long work that is done in steps."""

    poll_s: Positive = 1.0  # between two looks for work when nobody said that there is some
    lease_s: Positive = 30.0  # after this silence of a process another one takes its jobs over
    tries_max: Annotated[int, Meta(ge=1, le=1000)] = 10  # of a step that can be undone; then everything is undone
    backoff_s: Positive = 1.0  # before the second try; doubled by each further one
    backoff_s_max: Positive = 300.0
    kept_s: Annotated[float, Meta(ge=0, le=3 * 366 * 86_400)] = 90 * 86_400.0  # an ended job is shown this long
    erasures_at_once: Annotated[int, Meta(ge=1, le=100)] = 2  # in one process
    settle_s: Annotated[float, Meta(ge=0, le=3600)] = 30.0  # from suspending to erasing: every gateway knows by then
    waiting_max: Annotated[int, Meta(ge=1, le=100_000)] = 100  # of one tenant and kind that have not ended


class Batches(Section, frozen=True):
    """Batches, and other long work. See docs/batches.md."""

    body_bytes_max: Annotated[int, Meta(ge=1024, le=16_777_216)] = 65_536  # of a request
    lines_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 50_000  # of an input file
    input_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 34)] = 200 * 1024 * 1024  # of an input file
    line_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 28)] = 4 * 1024 * 1024  # of one line of it
    errors_max: Annotated[int, Meta(ge=1, le=1000)] = 100  # shown of what is wrong with an input file
    window_s: Positive = 86_400.0  # what is not done this long after its creation expires
    batches_at_once: Annotated[int, Meta(ge=1, le=1000)] = 8  # in one process; others wait for their turn
    turn_s: Positive = 60.0  # then a batch makes room for another one that waits
    lines_at_once: Annotated[int, Meta(ge=1, le=10_000)] = 16  # of one batch, when the gateways take as many
    calls_at_once: Annotated[int, Meta(ge=1, le=100_000)] = 64  # of all batches of one process
    call_s: Positive = 600.0  # for one answer
    tries_max: Annotated[int, Meta(ge=1, le=100)] = 5  # of a line that fails; being busy is no failure
    pause_s: Positive = 2.0  # after a refusal that does not say when to come again
    pause_s_max: Positive = 300.0  # longest pause whatever a refusal says
    results_wait_s: Positive = 1.0  # an answer is written down after this at the latest
    piece_lines: Annotated[int, Meta(ge=1, le=10_000)] = 200  # read or written at once
    piece_bytes: Annotated[int, Meta(ge=1024, le=1 << 28)] = 4 * 1024 * 1024  # likewise
    upload_s: Positive = 3600.0  # for an output file to be stored
    jobs: Jobs = Jobs()
    database: DatabaseSettings = DatabaseSettings()
    outbox: OutboxSettings = OutboxSettings()


class Webhooks(Section, frozen=True):
    """What is sent to the servers of users when something has ended. See docs/webhooks.md."""

    database: DatabaseSettings = DatabaseSettings()
    outbox: OutboxSettings = OutboxSettings()
    inbox: InboxSettings = InboxSettings()
    body_bytes_max: Annotated[int, Meta(ge=1024, le=16_777_216)] = 65_536  # of a request to us
    endpoints_per_tenant_max: Count = 100
    ports: tuple[Annotated[int, Meta(ge=1, le=65_535)], ...] = (443, 8443)  # of public addresses
    allow_private: tuple[Annotated[str, Meta(max_length=64)], ...] = ()  # 10.1.2.0/24: on any port, by http too
    connect_s: Positive = 5.0  # to find and to reach a server
    answer_s: Positive = 15.0  # for all of one delivery
    answer_bytes_max: Annotated[int, Meta(ge=0, le=16_777_216)] = 65_536  # read of an answer, and not kept
    retry_s: tuple[Positive, ...] = (
        *(5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0),
    )  # between the tries of one delivery; after the last one it has failed
    retry_jitter: Share = 0.2  # of each wait, more or less
    disable_s: Positive = 5 * 86_400.0  # an endpoint that only fails is switched off after this
    deliveries_at_once: Annotated[int, Meta(ge=1, le=1000)] = 16  # of one process
    deliveries_at_once_per_endpoint: Annotated[int, Meta(ge=1, le=100)] = 4  # of one process
    lease_s: Positive = 60.0  # after this another process repeats a delivery that was begun; longer than answer_s
    poll_s: Positive = 1.0  # between two looks when nobody said that there is something
    waiting_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000  # deliveries of one endpoint; more are not made
    kept_s: Positive = 7 * 86_400.0  # deliveries that have ended are deleted after this


class EventsTls(Section, frozen=True):
    """How a broker is believed, and believes us, where the URL says TLS. Files of PEM, read at every connection."""

    ca: Annotated[str, Meta(max_length=4096)] = ""  # who signs the broker's certificate; "": whom this system trusts
    certificate: Annotated[str, Meta(max_length=4096)] = ""  # ours, with those between; "": none is shown
    key: Annotated[str, Meta(max_length=4096)] = ""  # of our certificate, without a passphrase


class Events(Section, frozen=True):
    """The broker that services tell each other through."""

    url: Annotated[str, Meta(pattern=r"^($|amqps?://|kafkas?://|rediss?://|valkeys?://).*", max_length=4096)] = (
        ""  # amqp(s)://, kafka(s)://, redis(s)://, with s through TLS; "": within the process
    )
    tls: EventsTls = EventsTls()
    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9.-]{0,62}$")] = "cordee.events"  # of the exchange, topic or stream
    connect_s: Positive = 5.0  # to reach the broker
    retry_s: Positive = 0.2  # before the first new try after it was lost; doubled by each further one
    retry_s_max: Positive = 15.0
    rabbitmq_queues: Literal["classic", "quorum"] = "classic"  # quorum: for several nodes
    kafka_partitions: Annotated[int, Meta(ge=1, le=1000)] = 4  # of a topic that is made
    kafka_replicas: Annotated[int, Meta(ge=1, le=100)] = 1  # of a topic that is made
    trim_every: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000  # events; then what all have handled leaves a stream


class Feed(Section, frozen=True):
    """How gateways follow who there is."""

    look_s: Positive = 0.5  # between two looks for something new while a gateway waits
    wait_s: Annotated[float, Meta(ge=1, le=60)] = 25.0  # a gateway is answered after this even if nothing is new
    answer_s: Positive = 10.0  # for a page to come, beyond that
    retry_s: Positive = 1.0  # after accounts did not answer
    page_max: Annotated[int, Meta(ge=1, le=10_000)] = 1000  # entries told at once
    page_bytes_max: Annotated[int, Meta(ge=65_536, le=1 << 30)] = 16 << 20  # of one page
    gone_kept_s: Annotated[float, Meta(ge=3600, le=366 * 86_400)] = (
        7 * 86_400.0  # a gateway that was away for longer begins anew
    )
    tokens_max: Annotated[int, Meta(ge=16, le=1_000_000)] = 4096  # verified tokens that a gateway remembers
    ended_kept_s: Annotated[float, Meta(ge=3600, le=366 * 86_400)] = (
        7 * 86_400.0  # sign-ins that were ended are told for so long; no browser's session of a sign-in lasts longer
    )
    ended_max: Annotated[int, Meta(ge=1000, le=10_000_000)] = (
        100_000  # of these a gateway remembers; beyond, the oldest sessions of sign-ins end
    )


class Provider(Section, frozen=True, kw_only=True):
    """An OpenID provider by which people sign in, as `[services.accounts.providers.NAME]`. See docs/accounts.md."""

    issuer: Annotated[str, Meta(pattern=PROVIDER_PATTERN, max_length=512)]  # exactly as the provider writes it
    client_id: Annotated[str, Meta(min_length=1, max_length=256)]  # that the provider knows this installation by
    client_secret_env: Annotated[str, Meta(max_length=128)] = (
        ""  # the environment variable that holds its secret; "": there is none, PKCE alone
    )
    title: Annotated[str, Meta(max_length=64)] = ""  # on pages, after "Sign in with"; "": NAME
    tenant: Annotated[str, Meta(min_length=1, max_length=64)]  # the id of the one its people belong to
    role: Literal["admin", "developer", "user", "viewer"] = "user"  # at their first sign-in; then it is changed here
    domains: Annotated[tuple[Annotated[str, Meta(pattern=DOMAIN_PATTERN, max_length=253)], ...], Meta(min_length=1)]
    # of the e-mail addresses that are let in; "*": of all
    takes_over: bool = False  # a user of the tenant who has the address already may sign in by it, too
    trusts_addresses: bool = False  # all addresses count as verified, for a provider that does not say so but knows
    connect_s: Positive = 5.0  # to reach it
    answer_s: Positive = 10.0  # for one answer
    answer_bytes_max: Annotated[int, Meta(ge=1024, le=16_777_216)] = 262_144  # of one answer
    kept_s: Positive = 3600.0  # its description and its keys are read anew after this
    refresh_s: Positive = 30.0  # between two looks for a key that is not known yet, and after one that failed


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
    feed: Feed = Feed()
    providers: dict[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,31}$")], Provider] = {}  # by which people sign in


class Asking(Section, frozen=True):
    """How services ask the gateways, on behalf of callers."""

    connections_max: Annotated[int, Meta(ge=1, le=100_000)] = 1000  # to all gateways, of one process
    connect_s: Positive = 2.0  # to reach a gateway
    rest_s: Positive = 1.0  # one that could not be reached is left alone for so long
    tries_max: Annotated[int, Meta(ge=1, le=1000)] = (
        12  # of one request at gateways that are away, or have gone meanwhile
    )
    pause_s: Positive = 0.1  # before the second round over all of them; doubled by each further one
    pause_s_max: Positive = 5.0
    answer_bytes_max: Annotated[int, Meta(ge=65_536, le=1 << 32)] = 256 << 20  # of an answer that is taken whole
    event_bytes_max: Annotated[int, Meta(ge=65_536, le=1 << 30)] = 16 << 20  # of one event of a stream


class Passage(Section, frozen=True):
    """What gateways let pass through to the services."""

    open_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000  # requests under way at once, of one gateway
    open_per_key_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 200  # of them of one key, or of all without a key
    body_bytes_max: Annotated[int, Meta(ge=0, le=1 << 50)] = 0  # of a request; 0: what its service takes
    answer_s: Positive = 660.0  # for an answer to begin; longer than a service works on one
    silent_s: Positive = 2.0  # a process that takes longer to say how it is gets nothing, until it does
    rest_s: Positive = 1.0  # one that could not be reached is left alone for so long


class Services(Section, frozen=True):
    """The services behind the gateways: accounts, chats, files, batches, webhooks."""

    enabled: bool = True
    per_server: Annotated[int, Meta(ge=1, le=16)] = 1  # processes, each with all services
    start_s: Positive = (
        20.0  # for all of them to be there; then the platform says `ready` without those that are missing
    )
    retry_s: Positive = 1.0  # before a service that could not start is tried again; doubled by each further try
    retry_s_max: Positive = 30.0
    requests_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 2000  # open at once, of one process
    idle_timeout_s: Positive = 120.0  # a connection of a gateway that asks nothing is closed after this
    drain_s: Positive = 10.0  # for open requests, at the end
    passage: Passage = Passage()
    asking: Asking = Asking()
    accounts: Accounts = Accounts()
    chats: Chats = Chats()
    files: Files = Files()
    batches: Batches = Batches()
    webhooks: Webhooks = Webhooks()
    events: Events = Events()
