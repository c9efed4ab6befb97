"""Servers by URL and providers in the configuration: what is wrong is said before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from cordee.config.load import ConfigError, load

CLOUD = '[[cloud]]\nname = "c"\nprovider = "alibaba"\nmodels = {m = "qwen-plus"}\nprice_in = 1\nprice_out = 1\n'
MONEY = "[overflow]\nspend_per_day = 5\n"


def loaded(tmp_path: Path, text: str):
    file = tmp_path / "cordee.toml"
    file.write_text(text)
    return load(file, tmp_path, {}, {})


def test_a_provider_with_money_is_taken(tmp_path):
    config = loaded(tmp_path, MONEY + CLOUD)
    (cloud,) = config.cloud
    assert (cloud.name, cloud.models, cloud.region) == ("c", {"m": "qwen-plus"}, "singapore")
    assert config.overflow.spend_per_day == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CLOUD, "spend_per_day is 0"),
        (MONEY + CLOUD + CLOUD, "two of the name 'c'"),
        (MONEY + CLOUD.replace('"alibaba"', '"openai"'), "without base_url"),
        (MONEY + CLOUD.replace('{m = "qwen-plus"}', "{}"), "without models"),
        (MONEY + CLOUD + 'base_url = "ftp://x"\n', "must be of the form"),
        (MONEY + CLOUD + 'key_env = "A"\nkey_file = "b"\n', "one of them"),
        (MONEY + CLOUD.replace('"c"', '"a b"'), "a name is of"),
        (MONEY + CLOUD.replace("price_in = 1\n", ""), "price_in"),
        (MONEY + CLOUD + 'region = "moon"\n', "moon"),
        (MONEY + CLOUD + 'api_key = "sk-secret"\n', "api_key"),
        ('[[replica]]\nurl = "http://user:pw@h"\n', "must be of the form"),
        ('[[replica]]\nurl = "http://h:99999"\n', "must be of the form"),
        ('[[replica]]\nurl = "http://h"\ncontinues = "magic"\n', "magic"),
        ("[overflow]\ncpu_normal = 90\n", "above overflow.cpu_alert"),
        ("[overflow]\nresponse_normal_s = 3\n", "above overflow.response_alert_s"),
        ("[overflow]\nwindow_s = 0\n", "overflow.window_s"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, text, said):
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, text)
    assert said in str(refused.value)
