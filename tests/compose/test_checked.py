"""What is found out before the first process starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from cordee.adapters.model_sources import ModelError
from cordee.compose.checked import USAGE, CannotStartError, look_first
from cordee.config.sections.entrances import Edge, Entry
from cordee.config.sections.kept import Store
from cordee.config.sections.models import Serve
from cordee.config.sections.outside import Cloud, Peer
from cordee.config.tree import Config

NOBODY = Entry(address="127.0.0.1:1", gateways_per_server=0)
ALONE = Config(
    model="oracle",
    edge=Edge(enabled=False),
    store=Store(enabled=False),
    web=Entry(address="127.0.0.1:0"),
    mobile=NOBODY,
)


def with_key(tmp_path: Path, key: str) -> str:
    file = tmp_path / "key"
    file.write_text(key)
    return str(file)


def test_a_model_that_needs_nothing_and_no_edge_need_nothing(tmp_path: Path) -> None:
    found = look_first(ALONE, {"HOME": str(tmp_path)})
    assert (found.model_name, found.envoy, found.valkey) == ("oracle", None, None)


def test_a_key_that_is_not_there_is_named_before_every_gateway_ends_for_want_of_it(tmp_path: Path) -> None:
    cloud = Cloud(
        name="far",
        key_env="FAR_KEY",
        models={"oracle": "x"},
        price_in=0,
        price_out=0,
        base_url="https://far.example/v1",
    )
    outside = structs.replace(ALONE, cloud=(cloud,))
    with pytest.raises(
        CannotStartError, match="cloud far: the environment variable FAR_KEY holds no API key"
    ) as refused:
        look_first(outside, {"HOME": str(tmp_path)})
    assert refused.value.code == USAGE
    assert look_first(outside, {"HOME": str(tmp_path), "FAR_KEY": "sk-1"}).model_name == "oracle"


def test_a_key_file_is_read_before_anything_starts_and_its_content_is_not_shown(tmp_path: Path) -> None:
    peer = Peer(url="http://127.0.0.1:9", key_file=with_key(tmp_path, "two words"))
    beside = structs.replace(ALONE, replica=(peer,))
    with pytest.raises(CannotStartError, match="holds no API key") as refused:
        look_first(beside, {"HOME": str(tmp_path)})
    assert "two words" not in str(refused.value)


def test_models_that_cannot_be_told_apart_or_are_not_there_are_refused(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    twice = (Serve(model="oracle", name="small"), Serve(model=str(tmp_path / "small.gguf")))
    with pytest.raises(CannotStartError, match="two models are called 'small'") as refused:
        look_first(structs.replace(ALONE, serve=twice), environ)
    assert refused.value.code == USAGE
    with pytest.raises(ModelError, match="there is no such file"):
        look_first(structs.replace(ALONE, serve=twice[1:]), environ)
