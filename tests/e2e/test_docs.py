"""The requests in docs/ are sent as they stand there, to a platform as `cordee up` starts it, and answered as the page says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.rig import until

pytestmark = pytest.mark.e2e

DOCS = Path(__file__).parents[2] / "docs"
CORDEE = [sys.executable, "-m", "cordee.cli"]
MODEL = "smollm2-135m-instruct"  # of the pages; here the oracle answers
TOKENS = 400


class Shell:
    """A shell in a home of its own, beside a platform."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.web, self.mobile = free_port(), free_port()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("CORDEE_")}
        self.environment |= {"HOME": str(home), "XDG_DATA_HOME": "", "XDG_RUNTIME_DIR": ""}
        log = home / "up.log"
        addresses = ["--web", f"127.0.0.1:{self.web}", "--mobile", f"127.0.0.1:{self.mobile}"]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*CORDEE, "up", "--model", "oracle", *addresses],
                env=self.environment, cwd=home, stdout=out, stderr=out,
            )  # fmt: skip
        until(lambda: "ready" in log.read_text().splitlines() or self.process.poll() is not None, "ready", 60)
        assert self.process.poll() is None, log.read_text()

    def run(self, script: str) -> str:
        for there, here in (
            ("127.0.0.1:8000", f"127.0.0.1:{self.web}"),
            ("127.0.0.1:8100", f"127.0.0.1:{self.mobile}"),
        ):
            script = script.replace(there, here)
        script = script.replace(MODEL, "oracle").replace("python -m", f"{sys.executable} -m")
        script = re.sub(r"\bcordee (?=accounts|backup|jobs|restore)", f"{sys.executable} -m cordee.cli ", script)
        done = subprocess.run(
            ["sh", "-ec", script], env=self.environment, cwd=self.home, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("home"))
    yield shell
    shell.process.send_signal(signal.SIGINT)
    assert shell.process.wait(timeout=60) == 0


def scripts(page: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def script(page: str, that_has: str) -> str:
    [found] = [block for block in scripts(page) if that_has in block]
    return found


def test_every_script_in_the_documents_is_tried_here() -> None:
    blocks = {(page.name, block) for page in DOCS.glob("*.md") for block in scripts(page.name)}
    tried = {
        ("api.md", script("api.md", that_has)) for that_has in ("Last-Event-ID", "Idempotency-Key", "/v1/sessions")
    }
    tried |= {("mobile.md", script("mobile.md", "chat.proto"))}
    tried |= {
        (page, script(page, "cordee"))
        for page in ("accounts.md", "batches.md", "chats.md", "files.md", "operations.md")
    }
    assert blocks == tried


def test_a_stream_that_was_broken_off_is_given_to_its_end_and_has_a_receipt(shell: Shell) -> None:
    # Longer than on the page: it must not be over before somebody comes back for its rest.
    longer = script("api.md", "Last-Event-ID").replace(
        '"max_tokens": 60', f'"max_tokens": {TOKENS}, "ignore_eos": true'
    )
    *events, receipt = shell.run(longer).rstrip().splitlines()
    *lines, last = longer.rstrip().splitlines()
    shown = "\n".join([*(line for line in lines if line.startswith(("KEY=", "LAST=", "STREAM="))), last])
    told = json.loads(receipt)

    def is_served() -> bool:  # the page waits a second for the receipt, which a busy machine may exceed
        nonlocal told
        told = told if told.get("status") == "served" else json.loads(shell.run(shown))
        return bool(told.get("status") == "served")

    until(is_served, "the receipt")
    begun = (shell.home / "begun.txt").read_text().splitlines()
    choices = [
        json.loads(line.removeprefix("data: "))["choices"][0] for line in begun + events if line.startswith("data: {")
    ]
    words = "".join(choice["delta"].get("content", "") for choice in choices).split()  # an oracle's token is one word
    assert "data: [DONE]" in events
    assert (told["status"], told["usage"]["completion_tokens"], told["resumed"]) == ("served", len(words), 1)
    assert (len(words), choices[-1]["finish_reason"]) == (TOKENS, "length")


def test_a_repeat_gets_the_first_answer(shell: Shell) -> None:
    first, second = re.split(r"(?=HTTP/1\.1 )", shell.run(script("api.md", "Idempotency-Key")))[1:]
    assert "idempotency-replayed: true" not in first.lower()
    assert "idempotency-replayed: true" in second.lower()
    assert first[first.index("{") :] == second[second.index("{") :]


def test_a_browser_s_cookie_stands_for_the_key(shell: Shell) -> None:
    made, shown, models = map(
        json.loads, shell.run(script("api.md", "/v1/sessions")).replace("}{", "}\n{").splitlines()
    )
    assert made["object"] == shown["object"] == "session"
    assert [model["id"] for model in models["data"]] == ["oracle"]


def test_the_published_definition_of_grpc_is_compiled(shell: Shell) -> None:
    shell.run(script("mobile.md", "chat.proto"))
    assert (shell.home / "chat_pb2_grpc.py").exists()


def test_a_response_goes_on_from_another(shell: Shell) -> None:
    events = [
        json.loads(line.removeprefix("data: "))
        for line in shell.run(script("chats.md", "previous_response_id")).splitlines()
        if line.startswith("data: {")
    ]
    assert events[0]["response"]["previous_response_id"].startswith("resp_")
    assert events[-1]["response"]["status"] in ("completed", "incomplete")


def test_of_a_file_a_part_is_given(shell: Shell) -> None:
    assert shell.run(script("files.md", "-F file")) == "Blue"


def test_a_batch_is_made_of_a_file(shell: Shell) -> None:
    batch = json.loads(shell.run(script("batches.md", "questions.jsonl")))
    assert (batch["object"], batch["endpoint"]) == ("batch", "/v1/chat/completions")
    until(lambda: " done " in shell.run("cordee jobs"), "the batch is over", 60)


def test_the_first_owner_makes_a_key(shell: Shell) -> None:
    *_, key = shell.run(script("accounts.md", "create-owner")).splitlines()
    made = json.loads(key)
    assert made["key"].startswith("sk-cordee-")
    assert made["limits"]["requests_per_minute"] == 10


def test_what_is_saved_is_brought_back_elsewhere(shell: Shell) -> None:
    shell.run(script("operations.md", "cordee restore"))
    key = Path("restored") / "admin.key"
    assert (shell.home / key).read_text() == (shell.home / ".local/share/cordee/admin.key").read_text()
