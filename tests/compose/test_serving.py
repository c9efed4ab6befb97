"""What further models are called, and what their workers are told."""

import pytest
from msgspec.structs import replace as change

from cordee.adapters.model_sources import ModelError
from cordee.compose.layout import seats
from cordee.compose.routing import worker_names
from cordee.compose.serving import as_served, served, served_as
from cordee.config.checks import problems
from cordee.config.sections.models import Serve
from cordee.config.tree import Config
from cordee.supervisor.addresses import SOCKET_NAME_MAX

CONFIG = change(
    Config(),
    model="oracle",
    serve=(
        Serve(model="smollm2-135m-instruct", slots=3, threads=1),
        Serve(model="/models/Some Model v1.gguf", servers=1, per_server=2, load="demand"),
        Serve(model="oracle", name="Some/Model v1", context=512),
    ),
)


def test_a_model_without_a_name_has_its_own():
    assert [one.name for one in served(CONFIG)] == ["smollm2-135m-instruct", "Some Model v1", "Some/Model v1"]
    assert [one.is_on_demand for one in served(CONFIG)] == [False, True, False]


def test_workers_of_models_with_similar_names_have_different_plain_short_ones():
    names = [seat.name for seat in seats(CONFIG) if seat.role == "worker"]
    assert len(set(names)) == len(names)
    assert "worker-1.Some-Model-v1-2" in names
    assert "worker-2.Some-Model-v1_2" in names
    assert all(len(f"{name}.sock") <= SOCKET_NAME_MAX and name.isprintable() and " " not in name for name in names)


def test_workers_are_counted_per_model_and_known_by_the_same_names_to_routing():
    names = {seat.name for seat in seats(CONFIG) if seat.role == "worker"}
    assert names == {name for server in (1, 2) for name in worker_names(CONFIG, server)}
    assert sum("Some-Model-v1-" in name or name.endswith("Some-Model-v1") for name in names) == 2


def test_what_an_entry_leaves_open_is_as_for_the_first_model():
    first, _, third = (as_served(CONFIG, entry) for entry in CONFIG.serve)
    assert (first.engine.slots, first.engine.threads, first.engine.context) == (3, 1, CONFIG.engine.context)
    assert first.model == "smollm2-135m-instruct"
    assert (third.oracle.context, third.oracle.slots) == (512, CONFIG.oracle.slots)
    assert third.engine == CONFIG.engine


def test_an_entry_is_found_by_the_name_that_clients_use():
    assert served_as(CONFIG, "Some Model v1").entry is CONFIG.serve[1]
    with pytest.raises(ValueError, match="no \\[\\[serve\\]\\] of the name 'x'"):
        served_as(CONFIG, "x")
    with pytest.raises(ModelError, match="there is no model 'nonsense'"):
        served(change(CONFIG, serve=(Serve(model="nonsense"),)))


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ((Serve(model="oracle"),), "'oracle' more than once"),
        ((Serve(model="a.gguf", name="x"), Serve(model="b.gguf", name="x")), "'x' more than once"),
        ((Serve(model="a.gguf", name="base:adapter"),), "has no ':'"),
        ((Serve(model="a.gguf", servers=3),), "on 3 servers, of which there are 2"),
        ((Serve(model="a.gguf", batch=64),), "above its batch = 64"),
    ],
)
def test_what_cannot_be_is_refused_with_the_key_and_the_cure(entries, says):
    (key, problem), *_ = problems(change(CONFIG, serve=entries))
    assert key == "serve"
    assert says in problem
