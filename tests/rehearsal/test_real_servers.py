"""vLLM and llama.cpp's server themselves: an answer outlives the one that gave it. Each needs its program and a model on this machine.

REAL_VLLM=…/bin/vllm REAL_VLLM_MODEL=DIRECTORY: two of them under `cordee up`, with the environment that this one has.
REAL_LLAMA_SERVER=…/llama-server REAL_GGUF=FILE: two of them reached by URL.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_guests import Up
from tests.ports import free_port
from tests.rig import Rig, end, until

VLLM, VLLM_MODEL = os.environ.get("REAL_VLLM", ""), os.environ.get("REAL_VLLM_MODEL", "")
LLAMA_SERVER, GGUF = os.environ.get("REAL_LLAMA_SERVER", ""), os.environ.get("REAL_GGUF", "")
TOKENS = 120
BODY = {
    "messages": [{"role": "user", "content": "Tell a long story about a mountain 🏔️ and a café."}], "max_tokens": TOKENS, "temperature": 0,
    "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True},
}  # fmt: skip

pytestmark = [pytest.mark.rehearsal, pytest.mark.timeout(600)]


def text(events: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


def is_one_answer(events: list[dict[str, Any]], first: list[dict[str, Any]], at: int) -> None:
    """It is one stream of all its tokens, and what had left before the break stands at its beginning, once."""
    assert len({event["id"] for event in events}) == 1
    usages = [event["usage"] for event in events if event.get("usage")]
    assert [usage["completion_tokens"] for usage in usages[-1:]] == [TOKENS]
    whole, begun = text(events), text(events[:at])
    assert whole.startswith(begun)
    assert text(first).startswith(begun), "greedy answers are the same until the break"
    if len(begun) > 40:
        assert whole.count(begun) == 1, "what had left was said again"
    assert "\N{REPLACEMENT CHARACTER}" not in whole


@pytest.mark.skipif(not (VLLM and VLLM_MODEL), reason="set REAL_VLLM and REAL_VLLM_MODEL to try a real vLLM")
def test_an_answer_of_a_real_vllm_that_is_killed_goes_on_at_another_from_its_tokens(tmp_path: Path) -> None:
    passed = {
        "PATH",
        "HOME",
        "VLLM_CPU_KVCACHE_SPACE",
        "VLLM_CPU_OMP_THREADS_BIND",
        "HF_HUB_OFFLINE",
    } & os.environ.keys()
    assert passed
    serve = f'model = "{VLLM_MODEL}"\ncontext = 2048\nslots = 16\narguments = ["--enforce-eager"]'
    up = Up(
        tmp_path,
        serve,
        command=VLLM,
        body={**BODY, "model": "big"},
        look="look_s = 0.5, canary_s = 15.0, answer_s = 20.0",
    )
    try:
        until(lambda: len(up.ready()) == 2, "two vLLMs", patience_s=400)
        first = up.stream()
        servers = up.servers()

        def kill(count: int) -> None:
            if count == 40:
                os.kill(servers[up.busy()], signal.SIGKILL)

        events = up.stream(kill)
        is_one_answer(events, first, 40)
        receipt = up.ask(f"/v1/calls/{events[0]['id'].removeprefix('chatcmpl-')}")
        assert '"continuation":"tokens"' in receipt
        assert '"identical":false' in receipt
        until(lambda: len(up.ready()) == 2 and up.servers() != servers, "the killed one to come back", patience_s=400)
    finally:
        end(up.process, 60)


@pytest.fixture
def llama_servers(tmp_path: Path) -> Iterator[dict[int, subprocess.Popen[bytes]]]:
    started = {}
    for port in (free_port(), free_port()):
        with (tmp_path / f"{port}.log").open("wb") as log:
            flags = ("--host", "127.0.0.1", "--port", str(port), "-np", "4", "-c", "8192", "-t", "1", "--alias", "big")
            started[port] = subprocess.Popen(  # the program that whoever runs this has named
                [LLAMA_SERVER, "-m", GGUF, *flags], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, "LD_LIBRARY_PATH": str(Path(LLAMA_SERVER).parent)},
            )  # fmt: skip
    yield started
    for process in started.values():
        process.kill()
        process.wait()


@pytest.mark.skipif(
    not (LLAMA_SERVER and GGUF), reason="set REAL_LLAMA_SERVER and REAL_GGUF to try a real llama-server"
)
def test_an_answer_of_a_real_llama_server_that_is_killed_goes_on_at_another_from_its_text(
    tmp_path: Path, llama_servers: dict[int, subprocess.Popen[bytes]]
) -> None:
    flags = tuple(word for port in llama_servers for word in ("--replica", f"http://127.0.0.1:{port}"))
    body = {**BODY, "model": "big"}
    with Rig(tmp_path, workers=0, gateway_flags=flags) as rig:
        rig.wait_ready(2)
        first = list(rig.stream("/v1/chat/completions", body))

        def broken(count: int) -> Callable[[], None]:
            for port, process in llama_servers.items():
                if rig.metric_of("cordee_replica_calls", f'"127.0.0.1:{port}"') == 1:
                    return process.kill
            raise AssertionError(f"nobody has the call after {count} events")

        events = []
        for event in rig.stream("/v1/chat/completions", body):
            events.append(event)
            if len(events) == 40:
                broken(40)()
        is_one_answer(events, first, 40)
