"""A process and its configuration: all rules at once, or none."""

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from cordee.compose.following import Following
from cordee.config.file import ConfigError
from cordee.config.sections.attempts import Retry
from cordee.config.sections.overload import Queue
from cordee.config.sections.processes import Engine
from cordee.config.tree import Config


def raising(error: Exception) -> Callable[[], Config]:
    def reread() -> Config:
        raise error

    return reread


async def reloaded(following: Following) -> None:
    following.hup()
    assert following._running is not None
    await following._running


def test_every_rule_is_made_before_the_first_is_taken() -> None:
    wanted = replace(Config(), queue=Queue(wait_s_max=5.0), retry=Retry(attempts_max=7))
    happened: list[object] = []

    def made(rule: float) -> float:
        happened.append("made")
        return rule

    async def play() -> Following:
        following = Following(Config(), lambda: wanted)
        following.follow(("queue.",), lambda c: made(c.queue.wait_s_max), happened.append)
        following.follow(("retry.",), lambda c: made(c.retry.attempts_max), happened.append)
        await reloaded(following)
        return following

    following = asyncio.run(play())
    assert happened == ["made", "made", 5.0, 7]
    assert following.config == wanted


def test_a_rule_that_cannot_be_made_leaves_all_others_as_they_were() -> None:
    taken: list[object] = []

    def refuse(config: Config) -> int:
        raise ValueError("no such strategy")

    async def play() -> Following:
        following = Following(Config(), lambda: replace(Config(), queue=Queue(wait_s_max=5.0)))
        following.follow(("queue.",), lambda c: c.queue, taken.append)
        following.follow(("retry.",), refuse, taken.append)
        await reloaded(following)
        return following

    following = asyncio.run(play())
    assert taken == []
    assert following.config == Config()


def test_a_file_that_is_wrong_leaves_the_configuration_and_its_revision() -> None:
    async def play() -> None:
        following = Following(Config(), raising(ConfigError("cordee.toml, line 1: no")))
        before = following.revision
        await reloaded(following)
        assert (following.config, following.revision) == (Config(), before)

    asyncio.run(play())


def test_signals_that_come_together_end_with_the_newest_file() -> None:
    waits = [3.0, 4.0, 5.0]

    async def play() -> Following:
        following = Following(Config(), lambda: replace(Config(), queue=Queue(wait_s_max=waits.pop(0))))
        following.hup()
        await asyncio.sleep(0)
        following.hup()
        following.hup()
        assert following._running is not None
        await following._running
        return following

    assert asyncio.run(play()).config.queue.wait_s_max == 4.0  # the two that came meanwhile are one


def test_what_needs_a_restart_stays_as_it_was() -> None:
    async def play() -> Following:
        following = Following(Config(), lambda: replace(Config(), engine=Engine(context=300)))
        await reloaded(following)
        return following

    assert asyncio.run(play()).config == Config()
