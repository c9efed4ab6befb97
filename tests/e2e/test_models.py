"""Several models on one platform: loaded when a call asks for them, sent away when nobody does, each alone in its trouble."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIStatusError, OpenAI, Stream
from openai.types.chat import ChatCompletionChunk

from cordee.adapters.models import DEFAULT, resolve
from cordee.config.load import cache_dir
from tests.compose.test_platform import Running, cordee
from tests.rig import until

pytestmark = [pytest.mark.e2e, pytest.mark.model]

FIRST, DEMAND, COPY = DEFAULT, "small-talk", "copied"
IDLE_S = 12.0  # longer than it takes to ask for the status on a busy machine
QUESTION: Any = [{"role": "user", "content": "Tell me a story about a mountain guide."}]
CONFIG = """
servers = 1
edge.enabled = false
mobile.gateways_per_server = 0
engine = {{ slots = 2, context = 512 }}
[[serve]]
model = "{first}"
name = "{demand}"
load = "demand"
idle_s = {idle_s}
slots = 1
[[serve]]
model = "{copy}"
context = 256
"""


class Platform(Running):
    """One server with one gateway, and three models of the same weights."""

    def __init__(self, base: Path) -> None:
        data = base / "data"
        data.mkdir()
        self.copy = base / f"{COPY}.gguf"
        path = resolve(DEFAULT, cache_dir()).path
        assert path is not None
        shutil.copyfile(path, self.copy)
        config = CONFIG.format(first=FIRST, demand=DEMAND, idle_s=IDLE_S, copy=self.copy)
        (data / "cordee.toml").write_text(config)
        super().__init__(data, "--model", FIRST)

    @property
    def client(self) -> OpenAI:
        key = (self.data / "admin.key").read_text().strip()
        return OpenAI(base_url=f"http://{self.web}/v1", api_key=key, max_retries=0, timeout=60)

    def model(self, name: str) -> dict[str, Any]:
        return next(one for one in self.status()["models"] if one["name"] == name)

    def worker(self, model: str) -> dict[str, Any]:
        """Of a model that is not the first."""
        return next(one for one in self.status()["processes"] if one["role"] == "worker" and one["model"] == model)

    def last_pid(self, worker: str) -> int:
        """Of its newest life, by what the platform says: to ask for the status takes longer than many an answer."""
        return int(re.findall(rf"event=started name={re.escape(worker)} pid=(\d+)", self.output.read_text())[-1])

    def answer(self, model: str, tokens: int) -> str:
        done = self.client.chat.completions.create(model=model, messages=QUESTION, max_tokens=tokens, temperature=0)
        assert done.model == model
        return done.choices[0].message.content or ""

    def stream(self, model: str, tokens: int) -> Stream[ChatCompletionChunk]:
        return self.client.chat.completions.create(
            model=model, messages=QUESTION, max_tokens=tokens, temperature=0, stream=True
        )


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform(tmp_path_factory.mktemp("models")) as running:
        yield running


def test_a_model_on_demand_comes_with_its_first_call_goes_when_nobody_asks_and_comes_again(platform: Platform) -> None:
    def listed() -> dict[str, str]:
        return {one.id: one.model_extra["cordee"]["state"] for one in platform.client.models.list() if one.model_extra}

    until(lambda: listed() == {FIRST: "loaded", DEMAND: "not loaded", COPY: "loaded"}, "both pinned models")
    assert platform.worker(DEMAND)["pid"] == 0

    said = platform.answer(DEMAND, 8)
    status = platform.status()  # once, and at once: it goes when nobody asks
    first_life = next(one["pid"] for one in status["processes"] if one["model"] == DEMAND)
    assert first_life
    assert next(one["state"] for one in status["models"] if one["name"] == DEMAND) == "loaded"
    assert said == platform.answer(FIRST, 8) != ""

    until(lambda: platform.model(DEMAND)["state"] == "not loaded", "the idle model to be sent away")
    assert not Path(f"/proc/{first_life}").exists(), "its memory is back"
    assert platform.answer(DEMAND, 8) == said
    assert platform.worker(DEMAND)["pid"] not in (0, first_life)
    assert platform.worker(DEMAND)["restarts"] == 0


def test_an_answer_goes_on_after_the_only_worker_of_its_model_was_killed(platform: Platform) -> None:
    undisturbed = platform.answer(FIRST, 100)
    assert platform.answer(DEMAND, 1)
    worker = platform.worker(DEMAND)["name"]
    stream = platform.stream(DEMAND, 100)
    text = ""
    for number, event in enumerate(stream):
        text += event.choices[0].delta.content or ""
        if number == 5:
            os.kill(platform.last_pid(worker), signal.SIGKILL)
    assert text == undisturbed
    receipt = platform.client.get(f"/calls/{stream.response.headers['x-request-id']}", cast_to=httpx.Response).json()
    assert receipt["attempts"] >= 2, "it was killed in the middle"
    assert platform.worker(DEMAND)["restarts"] == 1


def test_a_damaged_file_costs_its_own_model_and_no_other(platform: Platform) -> None:
    assert platform.answer(COPY, 4)
    whole = platform.copy.read_bytes()
    worker = platform.worker(COPY)["pid"]
    assert worker
    undisturbed = platform.answer(FIRST, 60)
    stream = platform.stream(FIRST, 60)
    os.truncate(platform.copy, len(whole) // 2)
    os.kill(worker, signal.SIGKILL)
    text = "".join(event.choices[0].delta.content or "" for event in stream)
    assert text == undisturbed
    until(lambda: platform.model(COPY)["state"] == "failed", "the damaged model to be given up")
    with pytest.raises(APIStatusError) as refused:
        platform.answer(COPY, 4)
    assert refused.value.status_code == 503
    assert refused.value.code == "no_replica"
    assert "truncated" in refused.value.message
    assert platform.status()["state"] == "degraded"
    assert platform.answer(FIRST, 4)

    platform.copy.write_bytes(whole)
    assert cordee("models", "load", COPY, "--data", str(platform.data)).returncode == 0
    assert platform.answer(COPY, 4)
    until(lambda: platform.status()["state"] == "ready", "all to be well again")


def test_a_person_loads_and_unloads_by_name_and_hears_why_not(platform: Platform) -> None:
    data = ("--data", str(platform.data))
    assert cordee("models", "load", DEMAND, *data).stdout == f"{DEMAND} is loaded\n"
    assert f"{DEMAND}" in cordee("status", *data).stdout
    assert cordee("models", "unload", DEMAND, *data).stdout == f"{DEMAND} is not loaded\n"
    pinned = cordee("models", "unload", COPY, *data)
    assert pinned.returncode == 1
    assert "it is pinned" in pinned.stderr
    unknown = cordee("models", "load", "nobody", *data)
    assert unknown.returncode == 1
    assert "no such model" in unknown.stderr


def test_a_gateway_without_a_supervisor_says_that_nobody_could_start_a_worker(tmp_path: Path) -> None:
    from tests.rig import HEADERS, Rig  # noqa: PLC0415  # only here

    (tmp_path / "cordee.toml").write_text('[[serve]]\nmodel = "oracle"\nname = "later"\nload = "demand"\n')
    with Rig(tmp_path, workers=1) as rig:
        body = {"model": "later", "messages": [{"role": "user", "content": "hi"}]}
        answer = httpx.post(f"{rig.url}/chat/completions", json=body, headers=HEADERS)
        assert answer.status_code == 503
        assert "without a supervisor" in answer.json()["error"]["message"]
