"""What of a new configuration is taken while everything runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cordee.config.describe import settings, values
from cordee.config.file import ConfigError
from cordee.config.reload import LIVE, is_live, merge, revision
from cordee.config.sections.attempts import Deadlines
from cordee.config.sections.entrances import Gateway
from cordee.config.sections.overload import Queue
from cordee.config.sections.processes import Engine, Supervisor
from cordee.config.tree import Config

RUNNING = Config()


def test_every_live_key_is_a_setting_or_a_section() -> None:
    known = settings()
    for live in LIVE:
        assert any(key.startswith(live) for key in known) if live.endswith(".") else live in known, live


def test_rules_are_taken_and_what_needs_a_restart_is_named_and_left_as_it_is() -> None:
    wanted = replace(RUNNING, queue=Queue(wait_s_max=5.0), engine=Engine(context=300), servers=3)
    merged = merge(RUNNING, wanted)
    assert merged.taken == ("queue.wait_s_max",)
    assert set(merged.held) == {"engine.context", "servers"}
    assert merged.config == replace(RUNNING, queue=Queue(wait_s_max=5.0))


def test_what_is_held_for_another_reason_is_left_as_it_is() -> None:
    wanted = replace(RUNNING, deadlines=Deadlines(total_s=7200.0))
    merged = merge(RUNNING, wanted, frozenset({"deadlines.total_s"}))
    assert (merged.config, merged.taken, merged.held) == (RUNNING, (), ("deadlines.total_s",))


def test_a_rule_that_only_fits_beside_a_setting_that_is_held_is_refused() -> None:
    wanted = replace(RUNNING, gateway=Gateway(drain_s=100.0), supervisor=Supervisor(stop_s=200.0))
    with pytest.raises(ConfigError, match=r"gateway\.drain_s is 100.*need a restart first: supervisor\.stop_s"):
        merge(RUNNING, wanted)


@given(st.floats(1, 1000), st.integers(64, 9000))
def test_the_revision_changes_with_what_is_live_and_with_nothing_else(wait_s: float, context: int) -> None:
    other = replace(RUNNING, queue=Queue(wait_s_max=wait_s), engine=Engine(context=context))
    assert (revision(other) == revision(RUNNING)) == (wait_s == RUNNING.queue.wait_s_max)
    assert merge(RUNNING, other).config == replace(RUNNING, queue=Queue(wait_s_max=wait_s))


@pytest.mark.parametrize(
    "key",
    ["servers", "model", "web.address", "mobile.gateways_per_server", "edge.tls.enabled", "engine.context", "engine.ubatch", "adapters",
     "oracle.token_s", "worker.per_server", "supervisor.stop_s", "link.transport", "gateway.connections_max", "gateway.header_timeout_s"],
)  # fmt: skip
def test_what_is_fixed_at_the_start_is_not_live(key: str) -> None:
    assert key in values(RUNNING)
    assert not is_live(key)
