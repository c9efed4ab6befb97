"""Reports: one line at once, silence without a supervisor, and another try when it comes back."""

import asyncio
import json
from pathlib import Path

import pytest

from cordee.adapters import reports
from cordee.adapters.reports import Reporter


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "INTERVAL_S", 0.01)
    monkeypatch.setattr(reports, "INTERVAL_STARTING_S", 0.01)


def snapshot() -> dict[str, object]:
    return {"name": "web-1", "pid": 1, "state": "ready"}


async def listen(path: Path, lines: asyncio.Queue[bytes]) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await lines.put(await reader.readline())
        writer.close()

    return await asyncio.start_unix_server(serve, path)


def test_it_reports_at_once_and_again_after_the_supervisor_was_away(tmp_path: Path) -> None:
    async def life() -> None:
        lines: asyncio.Queue[bytes] = asyncio.Queue()
        reporter = Reporter(str(tmp_path / "s"), snapshot)
        reporter.start()
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            async with await listen(tmp_path / "s", lines):
                assert json.loads(await lines.get()) == {"kind": "report", **snapshot()}
            while not lines.empty():
                lines.get_nowait()
            (tmp_path / "s").unlink(missing_ok=True)
            async with await listen(tmp_path / "s", lines):
                assert json.loads(await lines.get())["name"] == "web-1"
        reporter.stop()
        reporter.stop()

    asyncio.run(life())


def test_without_a_socket_it_does_nothing() -> None:
    def never() -> dict[str, object]:
        raise AssertionError("asked without a supervisor")

    async def life() -> None:
        reporter = Reporter(None, never)
        reporter.start()
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
        reporter.stop()

    asyncio.run(life())
