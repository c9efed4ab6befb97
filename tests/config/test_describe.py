"""The flat list of settings is complete, and every entry can be reached and read."""

from __future__ import annotations

from cordee.config.describe import sections, settings, values
from cordee.config.load import RESERVED
from cordee.config.tree import Config


def test_every_leaf_of_the_tree_is_a_setting():
    known = settings()
    assert values(Config()) == {key: setting.default for key, setting in known.items()}
    assert {"servers", "model", "log_level", "web.address", "engine.slots", "link.phi"} <= set(known)


def test_no_two_settings_share_a_variable_and_none_is_reserved():
    variables = [setting.variable for setting in settings().values()]
    assert len(set(variables)) == len(variables)
    assert RESERVED.isdisjoint(variables)


def test_units_follow_the_names():
    known = settings()
    assert known["deadlines.total_s"].unit == "seconds"
    assert known["breaker.open_s_max"].unit == "seconds"
    assert known["gateway.body_bytes_max"].unit == "bytes"
    assert known["retry.budget_per_s"].unit == "per second"
    assert known["engine.slots"].unit == ""


def test_every_setting_and_section_is_described():
    assert all(setting.allowed for setting in settings().values())
    assert all(sections().values())
