"""Where settings come from, which wins, and what a wrong one is told."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from cordee.config.load import ConfigError, cache_dir, data_dir, load, trace
from cordee.config.tree import Config


def refusal(tmp_path: Path, text: str, name: str = "cordee.toml") -> str:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, tmp_path, environ={})
    return str(caught.value).replace(str(file), "FILE")


def complaint(attempt: Callable[[], Config]) -> str | None:
    """What a ConfigError said; None when there was none. Anything else passes through."""
    try:
        attempt()
    except ConfigError as error:
        return str(error)
    return None


def test_nothing_given_is_the_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(None, tmp_path, environ={}) == Config()


def test_later_sources_win_leaf_by_leaf(tmp_path):
    file = tmp_path / "cordee.toml"
    file.write_text('servers = 3\nmodel = "oracle"\n[engine]\nslots = 4\nthreads = 1\nbatch = 512\n')
    environ = {"CORDEE_ENGINE_SLOTS": "5", "CORDEE_ENGINE_THREADS": "2", "CORDEE_EDGE_ENABLED": "false", "HOME": "/h"}
    loaded = trace(None, tmp_path, {"engine.threads": 7, "web.address": "127.0.0.1:9000", "model": None}, environ)
    config = loaded.config
    assert (config.servers, config.model, config.edge.enabled) == (3, "oracle", False)
    assert (config.engine.batch, config.engine.slots, config.engine.threads) == (512, 5, 7)
    assert config.web.address == "127.0.0.1:9000"
    assert config.engine.context == Config().engine.context
    assert loaded.origins["engine.batch"] == f"{file}, line 6"
    assert loaded.origins["engine.slots"] == "environment variable CORDEE_ENGINE_SLOTS"
    assert loaded.origins["engine.threads"] == "command line"
    assert loaded.origins["engine.context"] == "default"


def test_the_file_is_the_explicit_one_then_the_variable_then_the_data_directory_then_here(tmp_path, monkeypatch):
    here, data = tmp_path / "here", tmp_path / "data"
    for servers, place in enumerate((here, data), start=3):
        place.mkdir()
        (place / "cordee.toml").write_text(f"servers = {servers}")
    (tmp_path / "named.json").write_text('{"servers": 5}')
    (tmp_path / "explicit.toml").write_text("servers = 6")
    monkeypatch.chdir(here)
    assert load(None, tmp_path / "none", environ={}).servers == 3
    assert load(None, data, environ={}).servers == 4
    named = {"CORDEE_CONFIG": str(tmp_path / "named.json")}
    assert load(None, data, environ=named).servers == 5
    assert load(tmp_path / "explicit.toml", data, environ=named).servers == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[engine]\nslots = 0\n",
            "FILE, line 2: engine.slots = 0 is not allowed: it must be a whole number from 1 to 256.",
        ),
        ("\n[engine]\nslotz = 4\n", "FILE, line 3: there is no setting engine.slotz; did you mean engine.slots?"),
        ("slots = 4", "FILE, line 1: there is no setting slots; did you mean engine.slots?"),
        ("[engin]\nslots = 1", "FILE, line 1: there is no setting engin; did you mean engine?"),
        ("web = 1", "FILE, line 1: web = 1: web is a table; write [web]"),
        ("[[engine]]\nslots = 3", "FILE, line 1: engine = "),
        ("engine = {slots = true}", "FILE, line 1: engine.slots = true is not allowed"),
        ("engine.slots = 4.0", "FILE, line 1: engine.slots = 4.0 is not allowed"),
        (
            'services.events.url = "amqpx://user:word@host/"',
            'services.events.url = "amqpx://\u2026@host/" is not allowed',
        ),
        ("[engine]\nexact = 1", "FILE, line 2: engine.exact = 1 is not allowed: it must be true or false."),
        ('servers = "2"', "it must be a whole number from 1 to 64"),
        ("[link]\nbeat_s = nan", "FILE, line 2: link.beat_s = NaN is not allowed"),
        ("[link]\nbeat_s = inf", "it must be a number above 0 and at most 604800 (seconds)"),
        ('log_level = "loud"', 'it must be one of "debug", "error", "info", "warning"'),
        ('model = "a\\u0000b"', "Control characters are not allowed"),
        ('"engine.slots" = 4', 'FILE, line 1: "engine.slots" in quotes is one name'),
        ("[engine]\nslots = 1\nslots = 2", "FILE, line 3: not TOML"),
        ("servers = ", "FILE, line 1: not TOML"),
        ("servers = 1\nmodel = 'x", "FILE, line 2: not TOML"),
        ("x=" + "[" * 5000, "FILE: nested too deeply"),
        ("#" * 2_000_000, "FILE: longer than 1048576 bytes"),
        ('[web]\naddress = "127.0.0.1"', "FILE, line 2: web.address = "),
        ('[web]\naddress = "127.0.0.1:0"', "FILE, line 2: web.address is"),
        ('[web]\naddress = "127.0.0.1:65536"', "the port must be from 1 to 65535"),
        ('[mobile]\naddress = "127.0.0.1:8000"', "FILE, line 2: mobile.address is"),
        ('[mobile]\naddress = "0.0.0.0:08000"', "which meets web.address"),
        ("[engine]\nubatch = 4096\nbatch = 512", "FILE, line 2: engine.ubatch is 4096, above engine.batch = 512"),
        ("[engine]\nprefill_tokens_max = 4096", "engine.prefill_tokens_max is 4096, above engine.batch = 2048"),
        ("[link]\nbeat_s = 0.1", "not below link.suspect_s_min"),
        ("[services.chats.outbox]\nlease_s = 5.0", "not below services.chats.outbox.lease_s = 5: no event would"),
        ('[services.events]\nname = "Ä"', "it must be text that matches `^[a-z]"),
        (
            '[services.events]\nurl = "kafkas://h"\n[services.events.tls]\nkey = "k"',
            "FILE, line 4: services.events.tls.key is given without services.events.tls.certificate",
        ),
        (
            '[services.events]\nurl = "kafka://h"\n[services.events.tls]\nca = "c"',
            "FILE, line 4: services.events.tls.ca is given, and services.events.url names no broker behind TLS",
        ),
        ("[link]\nidle_beat_s = 0.001", "above link.idle_beat_s"),
        ("[gateway]\ndrain_s = 60", "FILE, line 2: gateway.drain_s is 60, not below supervisor.stop_s = 35"),
        ("[supervisor]\nsilent_s = 2", "silent_s is 2, within the 3 s for which a busy process may say nothing"),
        ("[web]\ngateways_per_server = 0\n[mobile]\ngateways_per_server = 0", "at least one of them must be 1 or more"),
    ],
)
def test_a_wrong_file_is_told_where_what_and_what_is_allowed(tmp_path, text, said):
    assert said in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"engine": {\n"slots": 0}}', "FILE, line 2: engine.slots = 0 is not allowed"),
        ('{\n"engine": 1}', "FILE, line 2: engine = 1: engine is a table"),
        ('{"servers": 1, "servers": 2}', 'FILE: "servers" is set twice'),
        ('{"servers": 1,\n}', "FILE, line 2: not JSON"),
        ("[1]", "the file must be one JSON object"),
        ("[" * 100_000, "FILE: not a configuration: nested too deeply"),
        ('{"servers": ' + "9" * 5000 + "}", "too many digits"),
        ('{"deadlines": {"total_s": NaN}}', "deadlines.total_s = NaN is not allowed"),
    ],
)
def test_a_wrong_json_file_is_told_the_same_way(tmp_path, text, said):
    assert said in refusal(tmp_path, text, "config.json")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"CORDEE_ENGINE_SLOTS": "four"}, "environment variable CORDEE_ENGINE_SLOTS: engine.slots = "),
        (
            {"CORDEE_ENGINE_SLOT": "4"},
            "environment variable CORDEE_ENGINE_SLOT: there is no such setting; did you mean",
        ),
        ({"CORDEE_LINK_BEAT_S": "nan"}, "it must be a number above 0"),
        ({"CORDEE_SERVERS": ""}, "it must be a whole number from 1 to 64"),
        ({"CORDEE_MODEL": "a\nb"}, "Control characters are not allowed"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path, environ, said):
    with pytest.raises(ConfigError, match=said):
        load(None, tmp_path, environ=environ)


def test_an_unknown_override_is_named(tmp_path):
    with pytest.raises(
        ConfigError, match=r"command line: there is no setting engine\.slotz; did you mean engine\.slots"
    ):
        load(None, tmp_path, {"engine.slotz": 4}, {})


def test_names_that_are_no_settings_are_left_alone(tmp_path):
    reserved = {"CORDEE_ADMIN_KEY": "x", "CORDEE_CONTROL": "/c", "CORDEE_CACHE": "/d", "CORDEE_DATA": "/e"}
    assert load(None, tmp_path, environ=reserved) == Config()


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "absent.toml", tmp_path, environ={})
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, tmp_path, environ={})
    (tmp_path / "cordee.toml").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match="there is no such file"):
        load(None, tmp_path, environ={})
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"servers = 2\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"line 2: not UTF-8 \(byte 17\)"):
        load(latin, tmp_path, environ={})


def test_directories_follow_the_argument_then_our_variable_then_xdg_then_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert data_dir("there", {"CORDEE_DATA": "/d"}) == tmp_path / "there"
    assert data_dir(None, {"CORDEE_DATA": "/d", "XDG_DATA_HOME": "/x", "HOME": "/h"}) == Path("/d")
    assert data_dir(None, {"XDG_DATA_HOME": "/x", "HOME": "/h"}) == Path("/x/cordee")
    assert data_dir(None, {"XDG_DATA_HOME": "relative", "HOME": "/h"}) == Path("/h/.local/share/cordee")
    assert cache_dir({"HOME": "/h"}) == Path("/h/.cache/cordee")
    assert cache_dir({"CORDEE_CACHE": "/c", "HOME": "/h"}) == Path("/c")
    with pytest.raises(ConfigError, match="neither XDG_DATA_HOME nor HOME"):
        data_dir(None, {})


@examples(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=200))
def test_no_bytes_make_anything_but_a_configuration_or_a_config_error(tmp_path, raw):
    for name in ("fuzz.toml", "fuzz.json"):
        (tmp_path / name).write_bytes(raw)
        said = complaint(partial(load, tmp_path / name, tmp_path, environ={}))
        assert said is None or name in said


_values = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(max_size=10), st.lists(st.integers(), max_size=2)
)


@examples(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(["servers", "model", "engine.slots", "link.beat_s", "edge.enabled", "web.address"]),
    value=_values,
)
def test_a_value_is_taken_as_it_is_or_refused_by_name(tmp_path, key, value):
    said = complaint(lambda: load(None, tmp_path, {key: value}, {}))
    assert said is None or key in said
