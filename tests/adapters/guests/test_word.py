import asyncio
import stat
from pathlib import Path

from msgspec.structs import replace

from cordee.adapters.guests.word import Teller, Word, hear
from cordee.domain.replica import Gpu

WORD = Word(
    name="worker-1.m", kind="vllm", model="m", url="http://127.0.0.1:1", key="secret", life=1, is_ready=False, sequences_max=4,
    tokens_max=0, gpus=(Gpu(0, "H200", 12.0),),
)  # fmt: skip


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def test_who_listens_hears_the_last_word_at_once_each_new_one_and_the_end(tmp_path: Path):
    async def run() -> None:
        path = tmp_path / "w.sock"
        heard: list[Word] = []
        lost: list[str] = []
        listening = asyncio.create_task(hear(str(path), heard.append, lost.append))
        await until(lambda: lost)  # nobody is there yet
        teller = Teller(path)
        await teller.open()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        teller.tell(WORD)
        await until(lambda: heard == [WORD])
        teller.tell(WORD)
        teller.tell(replace(WORD, is_ready=True))
        await until(lambda: len(heard) == 2)
        assert heard[1].is_ready
        before = len(lost)
        teller.close()
        await until(lambda: len(lost) > before)
        assert not path.exists()
        listening.cancel()

    asyncio.run(run())


def test_a_key_is_in_no_representation():
    assert "secret" not in repr(WORD)


def test_garbage_on_the_socket_is_a_loss_that_is_told_and_tried_again(tmp_path: Path):
    async def run() -> None:
        path = str(tmp_path / "w.sock")

        async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"nonsense\n")

        server = await asyncio.start_unix_server(talk, path)
        lost: list[str] = []
        listening = asyncio.create_task(hear(path, lambda _: None, lost.append))
        await until(lambda: len(lost) >= 2)
        listening.cancel()
        server.close()

    asyncio.run(run())
