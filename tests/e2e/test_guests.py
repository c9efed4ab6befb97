"""A server of another make under `cordee up`: started, found well, used, and outlived. The server is played by tests/rehearsal/guest.py."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cordee.adapters.guests.sessions import members
from tests.ports import free_port
from tests.rehearsal import guest
from tests.rig import HEADERS, KEY, NOT_SETTINGS, end, until

pytestmark = pytest.mark.e2e
BODY = {"model": "big", "messages": [{"role": "user", "content": "hi"}], "max_tokens": guest.COUNT, "stream": True}
LONG = 200  # words: four seconds, so that something can be done in the middle however busy the cores are


class Up:
    """`cordee up` with an oracle, one gateway a server, and two guests of one model."""

    def __init__(
        self, directory: Path, serve: str, command: str = "", body: dict[str, Any] = BODY,
        look: str = "look_s = 0.05, canary_s = 0.3, answer_s = 20.0",
    ) -> None:  # fmt: skip
        self.port, self.directory, self.body = free_port(), directory, body
        (directory / "cordee.toml").write_text(f"""
            model = "oracle"
            web = {{address = "127.0.0.1:{self.port}"}}
            mobile = {{gateways_per_server = 0, address = "127.0.0.1:{free_port()}"}}
            edge = {{enabled = false}}
            store = {{enabled = false}}
            services = {{enabled = false}}
            guests = {{{look}}}
            [[serve]]
            name = "big"
            kind = "vllm"
            command = "{command or guest.command(directory)}"
            {serve}
        """)
        environment = {k: v for k, v in os.environ.items() if k not in NOT_SETTINGS}
        self.stuck = directory / "stuck"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cordee.cli", "up", "--data", str(directory / "d"), "--config", str(directory / "cordee.toml")],
            env={**environment, "CORDEE_ADMIN_KEY": KEY, "HF_STUCK": str(self.stuck)},
            stdout=(directory / "up.log").open("wb"), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, path: str) -> str:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", path, headers=HEADERS)
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""

    def ready(self) -> set[str]:
        """Guests that take calls."""
        lines = self.ask("/metrics").splitlines()
        return {
            line.split('"')[3]
            for line in lines
            if line.startswith('cordee_replica_ready{model="big"') and line.endswith(" 1.0")
        }

    def stream(self, each: Callable[[int], None] = lambda _: None) -> list[dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", "/v1/chat/completions", json.dumps(self.body), HEADERS)
        response, events = connection.getresponse(), list[dict[str, Any]]()
        assert response.status == 200, response.read()
        for line in response:
            if line.startswith(b"data: [DONE]"):
                return events
            if line.startswith(b"data: "):
                events.append(json.loads(line[6:]))
                each(len(events))
        raise AssertionError(f"the stream ended without [DONE], after {events[-1:]}")

    def servers(self) -> dict[str, int]:
        """The guests' own processes, by the name of their worker."""
        found = {}
        for note in (self.directory / "d" / "run").glob("*.guest"):
            with suppress(FileNotFoundError, ValueError):  # its guest has just ended, or is just being written down
                found[note.stem] = json.loads(note.read_bytes())["session"]
        return found

    def busy(self) -> str:
        """The one that has a call."""
        lines = self.ask("/metrics").splitlines()
        return next(
            line.split('"')[3]
            for line in lines
            if line.startswith('cordee_replica_calls{model="big"') and line.endswith(" 1.0")
        )

    def log(self, name: str = "") -> str:
        path = self.directory / "d" / "log" / f"{name}.log" if name else self.directory / "up.log"
        return path.read_text(errors="replace") if path.exists() else ""


@contextmanager
def running(up: Up) -> Iterator[Up]:
    sessions: list[int] = []
    try:
        until(lambda: len(up.ready()) == 2, "two guests")
        sessions = list(up.servers().values())
        yield up
    finally:
        end(up.process)
    assert not any(members(session) for session in sessions), "a guest outlived the platform"


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with running(Up(tmp_path, 'model = "some/model"')) as up:
        yield up


def said(events: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


def test_an_answer_outlives_the_guest_that_gave_it_and_its_successor_comes(up: Up) -> None:
    events = up.stream()
    assert said(events) == guest.text()
    first = up.servers()

    def kill(count: int) -> None:
        if count == 10:
            os.kill(first[up.busy()], signal.SIGKILL)

    up.body = {**BODY, "max_tokens": LONG}
    events = up.stream(kill)
    assert said(events) == guest.text(LONG)
    assert len({event["id"] for event in events}) == 1
    until(lambda: len(up.ready()) == 2 and up.servers() != first, "the killed one to come back")
    assert said(up.stream()) == guest.text(LONG)


def test_a_guest_that_is_told_to_go_finishes_what_it_has_and_gets_nothing_new(up: Up) -> None:
    minders: list[int] = []

    def end(count: int) -> None:
        if count == 10:
            name = up.busy()
            session = up.servers()[name]
            minders.append(int(Path(f"/proc/{session}/stat").read_text().rpartition(")")[2].split()[1]))
            os.kill(minders[0], signal.SIGTERM)
            until(lambda: name not in up.ready(), "it to take no calls")

    up.body = {**BODY, "max_tokens": LONG}
    events = up.stream(end)
    assert said(events) == guest.text(LONG)
    assert len({event["id"] for event in events}) == 1
    until(lambda: not Path(f"/proc/{minders[0]}").exists(), "its end")


def test_a_guest_whose_engine_is_dead_is_found_out_and_started_anew(tmp_path: Path) -> None:
    impatient = "look_s = 0.05, canary_s = 0.3, answer_s = 2.0"
    with running(Up(tmp_path, 'model = "some/model"', look=impatient)) as up:
        before = up.servers()
        up.stuck.touch()
        until(lambda: not up.ready(), "guests that answer nothing to be left out")
        for name in before:
            until(lambda name=name: "it answers no questions any more" in up.log(name), f"{name} to be ended")
        up.stuck.unlink()
        until(lambda: len(up.ready()) == 2, "their successors")
        assert set(up.servers().values()).isdisjoint(before.values())


def test_no_key_is_on_a_command_line_or_in_a_log_and_a_guest_knows_none_of_ours(up: Up) -> None:
    for name, session in up.servers().items():
        environment = dict(one.partition("=")[::2] for one in Path(f"/proc/{session}/environ").read_text().split("\0"))
        key = environment["VLLM_API_KEY"]
        assert "CORDEE_ADMIN_KEY" not in environment
        for pid in members(session):
            assert key not in Path(f"/proc/{pid}/cmdline").read_text()
        assert key not in up.log(name) + up.log("web-1") + up.log()
    assert len(set(up.servers().values())) == 2


def test_a_guest_that_cannot_start_says_why_and_the_other_models_are_served(tmp_path: Path) -> None:
    running = Up(tmp_path, 'model = "/models/broken"')
    try:
        until(lambda: "this model is broken" in running.log("worker-1.big"), "its own words to be told")
        until(
            lambda: "its server has ended with status 1" in running.log("worker-1.big"),
            lambda: f"its end to be told; the platform said: {running.log()}",
        )
        until(lambda: '"oracle"' in running.ask("/v1/models"), "the other model to be served")
    finally:
        end(running.process)


def test_a_configuration_that_cannot_be_is_refused_at_start_with_its_cure(tmp_path: Path) -> None:
    for serve, words in (
        ('model = "m"\ngpus = [7]\n', "gpus names 7"),
        ('model = "m"\narguments = ["--trust-remote-code"]\n', "--trust-remote-code"),
    ):
        running = Up(tmp_path, serve)
        assert running.process.wait(20) == 2
        assert words in running.log()
