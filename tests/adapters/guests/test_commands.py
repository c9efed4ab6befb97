"""The command lines of guests, against golden files."""

import shlex
from pathlib import Path
from typing import Literal

import pytest

from cordee.adapters.guests.commands import Place, passed_on, start
from cordee.config.sections.models import Serve

GOLDEN = Path(__file__).parent / "golden"
KEY = "a-secret-key"
ENVIRONMENT = {
    "PATH": "/bin", "HOME": "/home/me", "HF_TOKEN": "hf", "VLLM_USE_V1": "1", "CORDEE_ADMIN_KEY": "ours", "VLLM_API_KEY": "old",
    "VLLM_SERVER_DEV_MODE": "1", "CUDA_VISIBLE_DEVICES": "5", "OPENAI_API_KEY": "theirs", "LD_LIBRARY_PATH": "/cuda",
}  # fmt: skip


def entry(kind: Literal["vllm", "sglang"]) -> Serve:
    return Serve(
        model="org/model", kind=kind, tensor_parallel=2, data_parallel=2, context=8192, dtype="bfloat16", memory_share=0.85,
        arguments=("--seed", "1"),
    )  # fmt: skip


def place(gpus: tuple[int, ...] = (0, 1, 2, 3)) -> Place:
    return Place("/opt/bin/program", "chat", 23456, KEY, "/run/chat.yaml", gpus, 128)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_the_command_line_is_the_documented_one_and_holds_no_key(kind):
    one = start(entry(kind), place(), ENVIRONMENT)
    assert shlex.join(one.argv) + "\n" == (GOLDEN / f"{kind}-command.txt").read_text()
    assert KEY not in shlex.join(one.argv)
    assert KEY not in repr(one) + repr(place())


def test_vllm_gets_its_key_from_its_environment_and_sglang_from_a_file():
    assert start(entry("vllm"), place(), ENVIRONMENT).environment["VLLM_API_KEY"] == KEY
    one = start(entry("sglang"), place(), ENVIRONMENT)
    assert one.file == f'api-key: "{KEY}"\n'
    assert KEY not in one.environment.values()


def test_a_guest_sees_its_own_gpus_in_the_order_of_the_bus():
    environment = start(entry("vllm"), place((2, 3)), ENVIRONMENT).environment
    assert environment["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert start(entry("vllm"), place(()), ENVIRONMENT).environment["CUDA_VISIBLE_DEVICES"] == "5"


def test_a_guest_knows_of_our_environment_what_it_needs_and_no_key_of_ours():
    assert passed_on(ENVIRONMENT) == {
        "PATH": "/bin", "HOME": "/home/me", "HF_TOKEN": "hf", "VLLM_USE_V1": "1", "CUDA_VISIBLE_DEVICES": "5", "LD_LIBRARY_PATH": "/cuda",
    }  # fmt: skip


def test_what_is_not_said_is_left_to_the_program():
    argv = start(Serve(model="m", kind="vllm"), place(()), {}).argv
    assert "--max-model-len" not in argv
    assert "--gpu-memory-utilization" not in argv
