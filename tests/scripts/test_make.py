"""The entry points of a clone: what they offer, and what they say when they cannot go on."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = ("up", "test", "check", "rehearse", "bench", "lock", "clean", "help")
LOCKS = ("requirements.lock", "requirements-dev.lock")


def run(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=os.environ | environ, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
    )


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", (ROOT / lock).read_text(), re.MULTILINE))


def test_make_alone_lists_every_target_from_any_directory():
    told = run("make", "-s", "-C", str(ROOT)).stdout
    assert all(re.search(rf"make {target} +\w", told) for target in TARGETS)


@pytest.mark.parametrize("script", ["scripts/bootstrap", "scripts/lock", ".ci/run"])
def test_scripts_can_be_run_and_are_well_formed(script):
    path = ROOT / script
    assert os.access(path, os.X_OK)
    shell = path.read_text().partition("\n")[0].rpartition("/")[2].rpartition(" ")[2]
    assert run(shell, "-n", str(path)).returncode == 0


def test_an_unknown_purpose_is_refused_before_anything_is_touched():
    done = run(str(ROOT / "scripts/bootstrap"), "everything")
    assert (done.returncode, done.stderr) == (1, "cordee: usage: scripts/bootstrap run|check|test\n")


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes_and_no_machine_in_it(lock):
    text = (ROOT / lock).read_text()
    entries = re.split(r"^(?=[A-Za-z0-9._-]+==)", text, flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"--(index-url|extra-index-url|find-links)\b(?! -o)", "".join(entries))


def test_the_tools_lock_moves_nothing_that_the_product_runs_on():
    product, tools = (pins(lock) for lock in LOCKS)
    assert product.items() <= tools.items()


def test_ci_runs_check_and_test():
    assert "exec make check test" in (ROOT / ".ci/run").read_text()
    assert "run: .ci/run" in (ROOT / ".github/workflows/ci.yml").read_text()
