"""Adapters over a real worker, and its settings changed while it answers."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.engine.real import real_library, real_model
from tests.lora_files import of_model
from tests.rig import Rig, until

pytestmark = [pytest.mark.e2e, pytest.mark.model]
MODEL = "smollm2-135m-instruct"


def chat(model: str, **more: object) -> dict[str, object]:
    asked = [{"role": "user", "content": "Name a mountain."}]
    return {"model": model, "messages": asked, "temperature": 0, "max_tokens": 12, **more}


def text_of(answer: dict[str, object]) -> object:
    return answer["choices"][0]["message"]["content"]  # type: ignore[index]


def test_adapters_answer_by_name_and_settings_change_under_a_stream(tmp_path: Path) -> None:
    real_library()
    path = of_model(tmp_path / "one.gguf", real_model())
    file = tmp_path / "cordee.toml"
    adapter = f'[adapters.one]\npath = "{path}"\nbase = "{MODEL}"\n'
    file.write_text(adapter + "[engine]\nslots = 4\ncontext = 512\nthreads = 1\n")
    with Rig(tmp_path, MODEL, workers=1) as rig:
        _, plain = rig.post("/v1/chat/completions", chat(MODEL))
        status, adapted = rig.post("/v1/chat/completions", chat(f"{MODEL}:one"))
        assert status == 200
        assert adapted["model"] == f"{MODEL}:one"
        assert text_of(adapted) != text_of(plain)
        for name in (f"{MODEL}:two", "other:one"):
            status, body = rig.post("/v1/chat/completions", chat(name))
            assert (status, body["error"]["code"]) == (404, "model_not_found")
        listed = {one["id"]: one.get("parent") for one in json.loads(rig.get("/v1/models"))["data"]}
        assert listed == {MODEL: None, f"{MODEL}:one": MODEL}

        stream = rig.stream("/v1/chat/completions", chat(f"{MODEL}:one", max_tokens=60, ignore_eos=True))
        events = [next(stream) for _ in range(3)]
        file.write_text(adapter + "[engine]\nslots = 2\ncontext = 512\nthreads = 1\nprefill_tokens_max = 64\n")
        rig.workers[0].send_signal(signal.SIGHUP)
        until(lambda: "2 slots, steps of 2048 rows, 1 threads" in rig.log("worker-1"), "the new limits")
        events += stream
        said = "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
        _, again = rig.post("/v1/chat/completions", chat(f"{MODEL}:one", max_tokens=60, ignore_eos=True))
        assert text_of(again) == said
