"""Guests in the configuration: their GPUs, their processes, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as change

from cordee.compose.guests import GuestError, gpus_of, look, program_of
from cordee.compose.layout import Ground, lay_out
from cordee.compose.serving import Served, served
from cordee.config.checks import problems
from cordee.config.sections.models import Serve
from cordee.config.tree import Config
from cordee.supervisor.addresses import resolve

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def config(*entries: dict[str, Any], servers: int = 2) -> Config:
    defaults: dict[str, Any] = {"model": "org/big", "kind": "vllm", "command": "/bin/true"}
    return change(Config(), servers=servers, serve=tuple(Serve(**{**defaults, **entry}) for entry in entries))


def one(found: Config) -> Served:
    return served(found)[0]


def test_gpus_are_dealt_out_to_the_processes_in_their_order():
    found = config({"gpus": (4, 5, 6, 7, 0, 1, 2, 3), "tensor_parallel": 2, "per_server": 2})
    dealt = {
        name: gpus_of(found, one(found), name)
        for name in ("worker-1.big", "worker-2.big", "worker-1.big-2", "worker-2.big-2")
    }
    assert dealt == {"worker-1.big": (4, 5), "worker-2.big": (6, 7), "worker-1.big-2": (0, 1), "worker-2.big-2": (2, 3)}


def test_a_guest_of_which_nothing_is_said_sees_what_there_is():
    found = config({})
    assert gpus_of(found, one(found), "worker-2.big") == ()


def test_a_guest_is_called_by_the_last_part_of_its_models_name():
    assert [one.name for one in served(config({}, {"model": "/models/small/"}, {"model": "x", "name": "y"}))] == [
        "big",
        "small",
        "y",
    ]


@pytest.mark.parametrize(
    ("entries", "there", "words"),
    [
        (({"command": "/no/such/program"},), 0, "no program that can be started"),
        (({"command": ""},), 0, "set command of this"),
        (({"gpus": (0, 9)},), 2, "gpus names 9, but this host has 2, numbered from 0"),
        (({"gpus": (0, 1)},), 0, "none that its driver shows"),
        (({"gpus": (0,)},), 2, "need 2 GPUs together, gpus names 1"),
        (
            ({"gpus": (0, 1), "tensor_parallel": 2, "servers": 1}, {"name": "other", "gpus": (1, 2)}),
            4,
            "GPU 1 is given to",
        ),
        (({"tensor_parallel": 4, "servers": 1},), 2, "need 4 GPUs, this host has 2"),
        (({},), 2, "does not say which GPUs each gets"),
        (({"arguments": ("--host", "0.0.0.0")},), 0, "'--host' is none of those"),  # noqa: S104
    ],
)
def test_what_cannot_be_is_refused_with_the_cure(entries, there, words):
    with pytest.raises(GuestError, match=words):
        look(config(*entries), ENVIRONMENT, lambda: there)


@pytest.mark.parametrize(
    ("entries", "there"),
    [
        (({},), 0),
        (({"servers": 1},), 1),
        (({"gpus": (0, 1)},), 2),
        (({"gpus": (0,), "servers": 1}, {"name": "b", "gpus": (1,), "servers": 1}), 2),
        (({"arguments": ("--seed", "1")},), 0),
    ],
)
def test_what_can_be_is_let_pass(entries, there):
    look(config(*entries), ENVIRONMENT, lambda: there)


def test_nobody_asks_for_gpus_where_there_is_no_guest():
    def present() -> int:
        raise AssertionError("the driver was asked")

    look(Config(), ENVIRONMENT, present)


def test_programs_are_found_where_path_says(tmp_path: Path):
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert program_of(Serve(model="m", kind="vllm"), {"PATH": str(tmp_path)}) == str(program)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"threads": 4}, "with threads, which it does not know"),
        ({"kind": "llama", "model": "oracle", "gpus": (0,)}, "with command, gpus, which it does not know"),
        ({"load": "demand"}, "takes longer to load than calls wait"),
        ({"gpus": (0, 0)}, "name each GPU once"),
    ],
)
def test_settings_that_mean_nothing_for_a_kind_are_errors(entry, words):
    assert any(words in text for _, text in problems(config(entry)))


def test_guests_are_workers_at_sockets_that_gateways_hear_and_lie_on_no_processor(tmp_path: Path):
    (tmp_path / "run").mkdir()
    ground = Ground(
        data=tmp_path, sockets=tmp_path / "run", config_file=tmp_path / "c.json", model="m", model_name="m", envoy=None,
        web=resolve("127.0.0.1:8000", "--web"), mobile=None, cores=(0, 1), descriptors_max=20_000, environment={"A": "1"},
        edge_environment={}, guest_environment={"HF_TOKEN": "t"},
    )  # fmt: skip
    specs = {spec.name: spec for spec in lay_out(config({}), ground)}
    guest, web = specs["worker-2.big"], specs["web-1"]
    assert guest.address == f"guest:{tmp_path}/run/worker-2.big.sock"
    assert f"{guest.address}" in web.program.argv
    assert (guest.processor, guest.program.cores) == ("any", None)
    assert [specs[name].processor for name in ("worker-1", "worker-2", "web-1")] == [
        "P1 → core 0",
        "P2 → core 1",
        "P3 → core 0",
    ]
    assert guest.program.environment == {"A": "1", "HF_TOKEN": "t"}
    assert "HF_TOKEN" not in web.program.environment
    assert guest.program.argv[-2:] == ("--serves", "big")
    assert not guest.is_essential
