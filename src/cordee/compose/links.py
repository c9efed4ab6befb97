"""The way from one gateway process to its workers: the link of each, and its seat in the roster."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from cordee.adapters.upstreams.link import Link, LinkRules
from cordee.config.launch import GatewayLaunch
from cordee.config.tree import Config
from cordee.domain.replica import Capacity, EngineFigures, Gpu, Load
from cordee.flow.answer import Counts
from cordee.gateway.health.canary import Canary
from cordee.gateway.roster import Card, Roster, WorkerSeat
from cordee.link.frames import WorkerHello


def link_to(
    address: str, config: Config, launch: GatewayLaunch, roster: Roster, counts: Counts,
    vocabulary_of: Callable[[str], int | None], canary: Canary,
) -> Link:  # fmt: skip
    rules = config.link
    listener = _Listener()
    tls: ssl.SSLContext | None = None
    peer_is_worker: Callable[[ssl.SSLObject], bool] | None = None
    if address.startswith("tls://"):
        # Certificates cost a gateway ten megabytes of library: only those that reach other hosts pay them.
        from cordee.compose.secure import context_to_workers, is_worker  # noqa: PLC0415

        tls, peer_is_worker = context_to_workers(launch.data), is_worker
    link = Link(
        address, launch.name, LinkRules(rules.beat_s, rules.idle_beat_s, rules.suspect_s_min, rules.phi), listener, tls,
        peer_is_worker,
    )  # fmt: skip

    def late(rows: int) -> None:
        counts.late += rows

    listener.seat = WorkerSeat(roster, link, late, vocabulary_of, canary)
    return link


class _Listener:
    """Passes what a link says on to the worker's seat in the roster."""

    seat: WorkerSeat

    def up(self, hello: WorkerHello) -> bool:
        return self.seat.is_up(
            Card(
                hello.worker, hello.model, hello.fingerprint, hello.context, hello.vocabulary, hello.exact,
                Capacity(hello.capacity_sequences, hello.capacity_tokens), tuple(hello.tasks), tuple(hello.adapters), hello.preempts,
            )
        )  # fmt: skip

    def load(self, load: Load) -> None:
        self.seat.load(load)

    def gpus(self, found: tuple[Gpu, ...]) -> None:
        self.seat.gpus(found)

    def figures(self, found: EngineFigures) -> None:
        self.seat.figures(found)

    def suspected(self, silence_s: float) -> None:
        self.seat.suspected(silence_s)

    def recovered(self) -> None:
        self.seat.recovered()

    def draining(self) -> None:
        self.seat.draining()

    def down(self, cause: str) -> None:
        self.seat.down(cause)

    def late(self, rows: int) -> None:
        self.seat.late(rows)
