"""What the README says is so: its requests are sent, its commands exist."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cordee.supervisor.asking import ask_status
from tests.ports import free_port
from tests.rig import until

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CORDEE = [sys.executable, "-m", "cordee.cli"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake (\w+)", README))))
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.e2e
@pytest.mark.parametrize("command", sorted(set(re.findall(r"`(?:\.venv/bin/)?cordee (\w+)", README))))
def test_every_command_has_help_with_examples(command: str) -> None:
    done = subprocess.run([*CORDEE, command, "--help"], capture_output=True, text=True, check=True)
    assert "example" in done.stdout


class Platform:
    """`cordee up` as a newcomer starts it, with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.web, mobile = free_port(), free_port()
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "XDG_DATA_HOME": "",
            "CORDEE_CACHE": os.environ["CORDEE_CACHE"],
        }
        self.environment.pop("CORDEE_ADMIN_KEY", None)
        self.data = home / ".local" / "share" / "cordee"
        self.log = home / "up.log"
        command = [*CORDEE, "up", "--web", f"127.0.0.1:{self.web}", "--mobile", f"127.0.0.1:{mobile}"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=home)
        until(lambda: "ready" in self.log.read_text().splitlines() or self.process.poll() is not None, "ready", 60)
        assert self.process.poll() is None, self.log.read_text()

    def run(self, *command: str) -> str:
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True, timeout=120
        ).stdout

    def at_home(self, text: str) -> str:
        """The README's text with this platform's port."""
        return text.replace("127.0.0.1:8000", f"127.0.0.1:{self.web}")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    os.environ.setdefault("CORDEE_CACHE", str(Path.home() / ".cache" / "cordee"))
    platform = Platform(tmp_path_factory.mktemp("home"))
    yield platform
    platform.process.send_signal(signal.SIGINT)
    assert platform.process.wait(timeout=60) == 0, platform.log.read_text()


@pytest.mark.e2e
@pytest.mark.model
def test_the_first_request_is_answered_in_a_stream(platform: Platform) -> None:
    [request] = [block for block in blocks("sh") if block.startswith("curl")]
    out = platform.run("sh", "-c", platform.at_home(request))
    assert out.startswith("data: {")  # of a mobile gateway an id would stand before it
    assert out.rstrip().endswith("data: [DONE]")


@pytest.mark.e2e
@pytest.mark.model
def test_the_official_client_gets_its_answer(platform: Platform) -> None:
    program = next(block for block in blocks("python") if "chat.completions" in block)
    assert len(platform.run(sys.executable, "-c", platform.at_home(program)).strip()) > 20


@pytest.mark.e2e
@pytest.mark.model
def test_what_is_kept_is_given_back(platform: Platform) -> None:
    [program] = [block for block in blocks("python") if "chat.completions" not in block]
    *answer, kept = platform.run(sys.executable, "-c", platform.at_home(program)).rstrip().splitlines()
    assert "".join(answer)
    assert kept == "Blue light scatters most."


@pytest.mark.e2e
@pytest.mark.model
def test_a_worker_killed_during_an_answer_costs_nothing(platform: Platform) -> None:
    [request] = [block for block in blocks("sh") if block.startswith("curl")]
    greedy = platform.at_home(request).replace('"max_tokens": 200', '"temperature": 0, "max_tokens": 400')
    whole = re.findall(r'"content":("(?:[^"\\]|\\.)*")', platform.run("sh", "-c", greedy))
    answer = subprocess.Popen(["sh", "-c", greedy], env=platform.environment, stdout=subprocess.PIPE, text=True)
    assert answer.stdout is not None
    begun = [answer.stdout.readline() for _ in range(20)]
    os.kill(answering(platform), signal.SIGKILL)
    out = "".join(begun) + answer.stdout.read()
    assert answer.wait(timeout=60) == 0
    assert out.rstrip().endswith("data: [DONE]")
    assert re.findall(r'"content":("(?:[^"\\]|\\.)*")', out) == whole


def answering(platform: Platform) -> int:
    """The pid of the worker that is answering now. Asked at the socket: to start a command may take as long as the answer."""
    found: list[int] = []

    def look() -> bool:
        processes = ask_status(platform.data).processes
        found[:] = [one.pid for one in processes if one.role == "worker" and one.load.get("running")]
        return bool(found)

    until(look, "a worker says that it is answering")
    return found[0]
