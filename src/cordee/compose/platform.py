"""What `cordee up` does: look first, then start, then stay until the end.

Everything that can be known beforehand is checked before the first process starts, so that a failure is one message with its
cure and leaves nothing running.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cordee.adapters import envoy_binary, link_tls, pki, valkey
from cordee.adapters.guests.commands import passed_on
from cordee.adapters.keyring import KeysError
from cordee.adapters.keys import admin_key, ensure_admin_key
from cordee.adapters.model_sources import ModelError
from cordee.compose import shelf
from cordee.compose.certificate import EdgeCertificate
from cordee.compose.checked import FAILED, CannotStartError, look_first
from cordee.compose.layout import Ground, lay_out
from cordee.compose.reload import Reloads, resolved_file, write_resolved
from cordee.compose.saving.mark import is_unfinished
from cordee.compose.terminal import on_hangup
from cordee.config.describe import values
from cordee.config.tree import Config
from cordee.supervisor.addresses import AddressError, Resolved, socket_dir
from cordee.supervisor.asking import CONTROL
from cordee.supervisor.claim import Claim, ClaimError
from cordee.supervisor.display import Display
from cordee.supervisor.events import Event, Listener
from cordee.supervisor.lines import Lines
from cordee.supervisor.supervise import Platform, Supervisor, base

# What a child may know of the environment. Settings are not among it: they stand resolved in its configuration file, and a
# variable would overrule what was said on the command line.
PASSED_ON = frozenset(
    {"PATH", "HOME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "CORDEE_ADMIN_KEY", "CORDEE_CACHE"}
    | {"LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}  # where an own build of the kernels finds its libraries and devices
)
PASSED_ON_PREFIXES = ("LC_", "XDG_")
EDGE_PASSED_ON = frozenset({"PATH", "LANG", "TZ", "TMPDIR"})
# Services get neither the admin key nor those of providers: what they ask, they ask on behalf of somebody.
SERVICES_PASSED_ON = EDGE_PASSED_ON | {"HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"}
SERVICES_PASSED_ON_PREFIXES = ("LC_", "AWS_")  # an object store's credentials have their names from its makers
SERVICES_MARGIN_S = 5.0  # for a process to come up, beyond what its services may take


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is to run, and what else is looked after meanwhile."""

    platform: Platform
    certificate: EdgeCertificate | None


def run(config: Config, data: Path, reread: Callable[[], Config], environ: Mapping[str, str] = os.environ) -> int:
    """Start everything, and return the exit status when everything has ended. `reread` gives the configuration as it would be at
    a start now; it raises ConfigError."""
    try:
        claim = Claim.take(data)
    except ClaimError as error:
        return _complain(str(error), FAILED)
    try:
        leftovers = claim.end_leftovers()
        prepared = _prepare(config, claim, reread, environ)
        return asyncio.run(_supervise(config, prepared, claim, leftovers))
    except CannotStartError as error:
        return _complain(str(error), error.code)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _complain(
            f"{error.strerror}{where}: free some space, or make {data} writable for this user, or choose another "
            "directory with --data DIR",
            FAILED,
        )
    finally:
        claim.release()


def _prepare(config: Config, claim: Claim, reread: Callable[[], Config], environ: Mapping[str, str]) -> _Prepared:
    """Check, write down, lay out. Raises CannotStartError, OSError."""
    data = claim.data
    if is_unfinished(data):
        raise CannotStartError(f"a restore into {data} was broken off: run `cordee restore` again with --force", FAILED)
    try:
        checked = look_first(config, environ)
        key = ensure_admin_key(data)
        admin_key(data, environ)  # one that cannot be used is said now, not by every gateway
        if config.link.transport == "tls":
            pki.ensure(data)
        sockets = socket_dir(claim.run, data, environ.get("XDG_RUNTIME_DIR"))
        _sweep(sockets)
        config_file = resolved_file(data)
        write_resolved(config_file, config)
        ground = Ground(
            data=data,
            sockets=sockets,
            config_file=config_file,
            model=checked.model,
            model_name=checked.model_name,
            envoy=checked.envoy,
            valkey=checked.valkey,
            web=checked.web,
            mobile=checked.mobile,
            cores=sorted(os.sched_getaffinity(0)),
            descriptors_max=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            environment={
                **_passed_on(environ, config),
                "CORDEE_CONTROL": str(sockets / CONTROL),
                "PYTHONUNBUFFERED": "1",
            },
            edge_environment={name: value for name, value in environ.items() if name in EDGE_PASSED_ON},
            guest_environment=passed_on(environ),
            services_environment={
                **_passed_on_to_services(environ, config),
                "CORDEE_CONTROL": str(sockets / CONTROL),
                "PYTHONUNBUFFERED": "1",
            },
        )
        certificate: EdgeCertificate | None = None
        if checked.envoy is not None and config.edge.tls.enabled:
            certificate = EdgeCertificate(config.edge.tls, data, ground.edge_secret)
            certificate.take()
        specs = lay_out(config, ground)
        models = shelf.plans(config, specs, checked.model_name, checked.files, environ)
    except AddressError as error:
        raise CannotStartError(str(error), FAILED) from error
    except (
        KeysError,
        ModelError,
        link_tls.PkiError,
        envoy_binary.EnvoyMissingError,
        valkey.StoreMissingError,
    ) as error:
        raise CannotStartError(str(error), FAILED) from error
    reloads = Reloads(config, config_file, reread)
    platform = Platform(
        specs=specs,
        model=checked.model_name,
        web=checked.web,
        mobile=checked.mobile,
        edge_admin=ground.edge_admin if checked.envoy is not None else None,
        control=sockets / CONTROL,
        key=key,
        certificate=certificate.trusted if certificate is not None else None,
        revision=reloads.revision,
        reload=reloads,
        backoff_s=config.supervisor.backoff_s,
        backoff_s_max=config.supervisor.backoff_s_max,
        deaths_max=config.supervisor.deaths_max,
        window_s=config.supervisor.window_s,
        silent_s=config.supervisor.silent_s,
        stop_s=config.supervisor.stop_s,
        services_s=config.services.start_s + SERVICES_MARGIN_S if config.services.enabled else 0.0,
        models=models,
        room=shelf.room,
    )
    return _Prepared(platform, certificate)


def _passed_on(environ: Mapping[str, str], config: Config) -> dict[str, str]:
    """What children may know, the keys of other servers that the configuration names included."""
    known = PASSED_ON | {peer.key_env for peer in config.replica} | {cloud.key_env for cloud in config.cloud}
    return {name: v for name, v in environ.items() if name in known or name.startswith(PASSED_ON_PREFIXES)}


def _passed_on_to_services(environ: Mapping[str, str], config: Config) -> dict[str, str]:
    """What services may know, the variables included in which their settings say that secrets are."""
    said = {value for key, value in values(config).items() if key.startswith("services.") and key.endswith("_env")}
    known = SERVICES_PASSED_ON | said
    return {name: v for name, v in environ.items() if name in known or name.startswith(SERVICES_PASSED_ON_PREFIXES)}


def _sweep(sockets: Path) -> None:
    """Sockets of a platform that was killed: we hold the lock, so nobody uses them."""
    for stale in sockets.glob("*.sock"):
        stale.unlink(missing_ok=True)


async def _supervise(config: Config, prepared: _Prepared, claim: Claim, leftovers: list[int]) -> int:
    platform = prepared.platform
    shown: Display | None = Display(Console()) if sys.stdout.isatty() else None
    listener: Listener = shown if shown is not None else Lines(sys.stdout, config.log_level)
    for pid in leftovers:
        listener(Event("ended-leftover", detail=(("pid", pid),)))
    supervisor = Supervisor(platform, claim, os.getpid(), listener)
    tasks: set[asyncio.Task[object]] = set()
    _hear_signals(supervisor, tasks)
    for exposed in in_the_clear((platform.web, platform.mobile), tls=platform.certificate is not None):
        listener(exposed)
    if prepared.certificate is not None:
        tasks.add(asyncio.create_task(prepared.certificate.follow(listener), name="certificate"))
    try:
        if shown is None:
            listener(_addresses(platform))
            await supervisor.run()
        else:
            await shown.during(supervisor)
    finally:
        for task in tasks:
            task.cancel()
    failure = supervisor.failure
    if failure is not None:
        return _complain(failure.message, failure.code)
    return 0


def _hear_signals(supervisor: Supervisor, tasks: set[asyncio.Task[object]]) -> None:
    """The first signal ends things in order, a second Ctrl-C at once."""

    def interrupted() -> None:
        supervisor.kill() if supervisor.stopping else supervisor.stop()

    def reload() -> None:
        task: asyncio.Task[object] = loop.create_task(supervisor.reload(), name="reload")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(signal.SIGTERM, supervisor.stop)
    loop.add_signal_handler(signal.SIGHUP, on_hangup(reload, supervisor.stop))


def in_the_clear(addresses: Sequence[Resolved | None], *, tls: bool) -> list[Event]:
    """A warning for each address that others can reach and that speaks no TLS."""
    cure = "keys and answers can be read on the way: set edge.tls.enabled = true, or put a TLS proxy in front"
    return [
        Event("not-encrypted", detail=(("address", at.text), ("cure", cure)), level=logging.WARNING)
        for at in addresses
        if at is not None and not tls and not ipaddress.ip_address(at.host).is_loopback
    ]


def _addresses(platform: Platform) -> Event:
    web, mobile = (base(at, tls=platform.certificate is not None) for at in (platform.web, platform.mobile))
    trusted = str(platform.certificate or "")
    facts = (
        *(("web", web), ("mobile", mobile), ("model", platform.model), ("key", platform.key)),
        *(("certificate", trusted), ("pid", os.getpid())),
    )
    return Event("starting", detail=tuple((name, value) for name, value in facts if value))


def _complain(message: str, code: int) -> int:
    print(f"cordee: {message}", file=sys.stderr, flush=True)
    return code
