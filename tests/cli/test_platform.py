"""`cordee status` and `cordee down` without a platform, and what `cordee up` hands on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cordee.cli import main
from cordee.cli import platform as cli_platform
from cordee.compose import platform
from cordee.compose.reload import resolved_file, write_resolved
from cordee.config.sections.processes import Supervisor
from cordee.config.tree import Config
from cordee.supervisor.status import Status


def test_status_of_nothing_is_exit_3_with_the_command_that_starts_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--data", str(tmp_path)]) == 3
    assert f"cordee up --data {tmp_path}" in capsys.readouterr().err
    assert main(["status", "--json", "--data", str(tmp_path)]) == 3
    assert capsys.readouterr().out == ""


def test_reloading_nothing_is_exit_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reload", "--data", str(tmp_path)]) == 3
    assert f"cordee up --data {tmp_path}" in capsys.readouterr().err


def test_ending_nothing_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down", "--data", str(tmp_path)]) == 0
    assert "nothing runs" in capsys.readouterr().out


def test_a_platform_is_ended_although_its_configuration_has_become_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def stop(data: Path, wait_s: float) -> Status:
        waits.append(wait_s)
        return Status(state="ready", data="", model="m", web="", mobile="", key="", uptime_s=1.0, processes=[])

    monkeypatch.setattr(cli_platform, "ask_stop", stop)
    (tmp_path / "cordee.toml").write_text("wrong = 1\n")
    assert main(["down", "--data", str(tmp_path)]) == 0
    (tmp_path / "run").mkdir()
    write_resolved(resolved_file(tmp_path), Config(supervisor=Supervisor(stop_s=100.0)))
    assert main(["down", "--data", str(tmp_path)]) == 0
    assert waits == [120.0, 315.0]


def test_a_flag_that_there_is_not_is_named_with_the_help_to_look_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--sevrers", "3"]) == 2
    assert "there is no --sevrers; `cordee up --help`" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "examples:" in capsys.readouterr().err


def test_the_command_line_overrides_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Config, Path]] = []

    def run(config: Config, data: Path, reread: Callable[[], Config]) -> int:
        given.append((config, data))
        assert reread() == config
        return 0

    monkeypatch.setattr(platform, "run", run)
    (tmp_path / "cordee.toml").write_text('model = "other"\nservers = 5\n')
    words = ["--web", "127.0.0.1:9000", "--mobile", "127.0.0.1:9100", "--model", "oracle", "--no-edge"]
    assert main(["up", "--data", str(tmp_path), *words]) == 0
    config, data = given[0]
    assert (config.web.address, config.mobile.address, config.model) == ("127.0.0.1:9000", "127.0.0.1:9100", "oracle")
    assert config.edge.enabled is False
    assert config.servers == 5
    assert data == tmp_path


@pytest.mark.parametrize("command", ["up", "down", "status", "reload", "chat"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"examples:\n  cordee {command}" in capsys.readouterr().out
