from __future__ import annotations

import pytest

from cordee.cli import login
from cordee.cli.asking import AskError, Reply
from cordee.cli.complaint import complain

STEERS = "\x1b[2J\x1b]0;x\x07\u202e"


def test_a_terminal_is_not_steered_by_who_signs_one_in(monkeypatch: pytest.MonkeyPatch):
    given = {
        "device_code": "d", "user_code": f"BCDF{STEERS}-GHJK", "expires_in": 600, "interval": 1,
        "verification_uri_complete": f"https://models.example/{STEERS}",
    }  # fmt: skip
    replies = [Reply(200, given), Reply(400, {"error": "access_denied", "error_description": f"no{STEERS}"})]
    monkeypatch.setattr(login, "ask", lambda *_, **__: replies.pop(0))
    told: list[str] = []
    with pytest.raises(AskError) as refused:
        login.device_login("https://models.example", "", told.append, lambda _: None)
    assert all(line.isprintable() for line in told[0].split("\n"))
    assert "https://models.example/" in told[0]
    assert "no" in str(refused.value)


def test_a_complaint_steers_nothing(capsys: pytest.CaptureFixture[str]):
    assert complain(f"what a server said: {STEERS}\nand more", 1) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("cordee: what a server said: [2J")
    assert all(line.isprintable() for line in printed.splitlines())
