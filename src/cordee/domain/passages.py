"""Which paths lead through the gateways to a service, and who is let through: said once for gateways, services and their tests."""

from __future__ import annotations

from enum import Enum

from cordee.domain.record import record


class Service(Enum):
    """The services there are."""

    ACCOUNTS = "accounts"
    CHATS = "chats"
    FILES = "files"
    BATCHES = "batches"
    WEBHOOKS = "webhooks"


@record
class Passage:
    """A path, and everything below it when it ends in `/`. `is_open`: the service itself looks at who asks (it is where one signs
    in); else the gateway has identified the caller and vouches for them. `takes_people`: an open one where the cookie of a person who
    signed in counts, because it only tells who that is."""

    path: str
    service: Service
    is_open: bool = False
    takes_people: bool = False


def _of(service: Service, *paths: str, is_open: bool = False) -> tuple[Passage, ...]:
    return tuple(Passage(path, service, is_open) for path in paths)


PASSAGES: tuple[Passage, ...] = (
    *_of(
        Service.ACCOUNTS,
        *("/v1/accounts/", "/v1/auth/", "/v1/users", "/v1/users/", "/v1/tenants", "/v1/tenants/"),
        *("/v1/api_keys", "/v1/api_keys/", "/v1/applications", "/v1/applications/", "/oauth/", "/.well-known/"),
        is_open=True,
    ),
    Passage("/v1/auth/me", Service.ACCOUNTS, is_open=True, takes_people=True),
    *_of(
        Service.CHATS,
        "/v1/responses",
        "/v1/responses/",
        "/v1/conversations",
        "/v1/conversations/",
        "/v1/chats",
        "/v1/chats/",
    ),
    *_of(Service.FILES, "/v1/files", "/v1/files/", "/v1/uploads", "/v1/uploads/"),
    *_of(Service.BATCHES, "/v1/batches", "/v1/batches/", "/v1/jobs", "/v1/jobs/"),
    *_of(
        Service.WEBHOOKS,
        *("/v1/webhooks/", "/v1/webhook_endpoints", "/v1/webhook_endpoints/", "/v1/webhook_event_types"),
    ),
)
