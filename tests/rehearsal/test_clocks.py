"""Rows 45 to 47: the time of day jumps in the middle of everything. Whoever reads it is listed here, with the reason why a jump
does no harm."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.rehearsal.record import record
from tests.rig import HEADERS, PATIENCE_S, Rig, oracle_text, until

SOURCE = Path(__file__).parents[2] / "src" / "cordee"
WALL = re.compile(r"\btime\.time(_ns)?\b|\bdatetime\.now\(|\butcnow\(|\bdate\.today\(|\btime\.localtime\b")
HOUR_S = 3600.0
TOO_MANY = 429

READERS = {
    "adapters/credentials.py": "validity of tokens and keys, given in the time of day; tests move it",
    "adapters/credentials_feed.py": "seals that gateways and services show each other: refused for a minute after a jump, and made anew",
    "adapters/keyring.py": "`created` of a key: shown, never compared",
    "adapters/pki.py": "validity of made certificates: an hour is granted to clocks that are behind",
    "adapters/redis/marks.py": "until when a request is quarantined, between hosts: an hour sooner or later at most",
    "adapters/upstreams/faults.py": "a Retry-After that is a date: bounded on both sides",
    "cli/accounts.py": "`created` of the first owner: shown, never compared",
    "cli/backup.py": "the name of a backup: shown",
    "cli/login.py": "how long a device code is good for: a jump ends or lengthens the wait for a person",
    "cli/signed_in.py": "validity of an access token: one refresh too many, or one after a 401",
    "compose/browsers.py": "validity of cookies, given in the time of day",
    "compose/certificate.py": "validity of certificates, given in the time of day",
    "compose/outside.py": "whose day's money is spent: a day never goes backwards",
    "compose/overload.py": "given to policy.budget.Calendar, which doubts a jump for a minute",
    "compose/passage.py": "seals, as in adapters/credentials_feed.py",
    "compose/saving/backup.py": "when a backup was made: shown",
    "compose/services.py": "given to the services: validity of tokens, codes and seals, and leases, which are fenced; tests move it",
    "gateway/calls.py": "`created` of an answer: shown, never compared",
    "gateway/front.py": "`created` of the models: shown, never compared",
    "gateway/kept/keeping.py": "`created` of an answer: shown, never compared",
    "gateway/kept/receipts.py": "`ended` of a receipt: shown, never compared",
    "gateway/on_behalf.py": "seals, as in adapters/credentials_feed.py",
    "gateway/sessions.py": "validity of cookies, given in the time of day; tests move it",
    "gateway/tasks/sink.py": "`created` of an answer: shown, never compared",
    "services/base/identifiers.py": "the order of identifiers: after a jump back new ones sort before the last ones, and are as unique",
    "supervisor/lines.py": "the time of a line in the log: shown",
    "wire/template.py": "the date that a chat template asks for: part of the prompt, where a jump changes what the model reads",
}


def test_every_reader_of_the_time_of_day_is_listed_with_the_reason_why_a_jump_does_no_harm() -> None:
    found = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if WALL.search(path.read_text())}
    assert found == READERS.keys()


# A clock that can be set: every process of the rig reads the time of day with what stands in a file added to it.
SETTABLE = """
import os, time
_true, _path = time.time, os.environ["TIME_OF_DAY_AHEAD"]
def moved():
    with open(_path) as file:
        return _true() + float(file.read())
time.time = moved
"""


@pytest.mark.rehearsal
def test_a_clock_that_jumps_an_hour_breaks_no_stream_and_renews_no_limit(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SETTABLE)
    ahead = tmp_path / "ahead"
    _set(ahead, 0.0)
    environment = {"PYTHONPATH": str(tmp_path), "TIME_OF_DAY_AHEAD": str(ahead), "CORDEE_ORACLE_TOKEN_S": "0.02"}
    with Rig(tmp_path, environment=environment) as rig:
        hourly, slow = _key(rig, "hourly", "--tokens-per-hour", "100"), _key(rig, "slow", "--requests-per-minute", "4")
        until(lambda: _post(rig, slow) == 200, "the keys are known")
        while _post(rig, hourly) == 200:
            pass
        seeds = [number << 8 for number in range(40)]
        texts: dict[int, str] = {}
        threads = [threading.Thread(target=lambda seed=seed: texts.update({seed: _text(rig, seed)})) for seed in seeds]
        for thread in threads:
            thread.start()
        refused = []
        for jump_s in (HOUR_S, 0.0, -HOUR_S, 0.0):
            _set(ahead, jump_s)
            time.sleep(1.2)  # a look of everybody at the clock
            assert abs(_created(rig) - (time.time() + jump_s)) < 60, "the processes see the jump"
            refused.append((_post(rig, hourly), _at_once(rig, slow)))
        for thread in threads:
            thread.join(PATIENCE_S)
        assert texts == {seed: oracle_text(seed, 150) for seed in seeds}
        assert rig.metric("cordee_attempts_again_total") == 0, "nobody was taken for dead"
        assert rig.ready_replicas() == 2
        until(lambda: rig.metric("cordee_calls_open") == 0, "no call is left")
    record(
        45, "the time of day of all processes jumps + 1 h, back, − 1 h, back", "no timer early or late, no limit reset",
        {
            "streams_over_the_jumps": len(seeds), "wrong": 0, "false_alarms": 0,
            "spent_budgets_renewed": sum(status != TOO_MANY for status, _ in refused),
            "calls_a_rate_of_4_a_minute_let_through": sum(passed for _, passed in refused),
        },
    )  # fmt: skip
    assert all(status == TOO_MANY for status, _ in refused)
    assert sum(passed for _, passed in refused) <= 3, "a quarter of a minute passes here, and one call is there at once"


def _set(ahead: Path, seconds: float) -> None:
    new = ahead.with_suffix(".new")
    new.write_text(repr(seconds))
    new.replace(ahead)


def _key(rig: Rig, *argv: str) -> str:
    command = [sys.executable, "-m", "cordee.cli", "keys", "create", *argv, "--data", str(rig.directory)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout.strip()


def _post(rig: Rig, key: str) -> int:
    """Of a call of ten tokens."""
    connection = http.client.HTTPConnection("127.0.0.1", rig.ports[0], timeout=PATIENCE_S)
    body = {"model": "oracle", "prompt": "x", "max_tokens": 9, "seed": 1, "ignore_eos": True}
    connection.request("POST", "/v1/completions", json.dumps(body), {**HEADERS, "Authorization": f"Bearer {key}"})
    return connection.getresponse().status


def _at_once(rig: Rig, key: str) -> int:
    """How many calls pass until one is refused."""
    passed = 0
    while _post(rig, key) == 200:
        passed += 1
    return passed


def _created(rig: Rig) -> float:
    _, answer = rig.post("/v1/completions", {"model": "oracle", "prompt": "x", "max_tokens": 1})
    created: float = answer["created"]
    return created


def _text(rig: Rig, seed: int) -> str:
    body = {"model": "oracle", "prompt": "x", "max_tokens": 150, "seed": seed, "ignore_eos": True}
    return "".join(choice["text"] for event in rig.stream("/v1/completions", body) for choice in event["choices"])
