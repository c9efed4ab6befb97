"""A cluster of Valkeys, and one that sentinels watch over, on free ports of loopback: what an operator may put in the place of our own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError

from cordee.adapters.valkey import binary
from tests.ports import free_port

PATIENCE_S = 40.0
SLOTS = 16_384
SILENT_MS = 2000  # after this a node or a primary counts as dead


class Node:
    """One Valkey. `more`: further words of its command line."""

    def __init__(self, directory: Path, *more: str) -> None:
        self.port = free_port()
        self.directory = directory / str(self.port)
        self.directory.mkdir(parents=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [binary(), *self.words(), *more], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.client: Any = Redis(port=self.port, socket_timeout=5, protocol=2)
        eventually(self._answers)

    def words(self) -> list[str]:
        return [
            "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory), "--save", "",
            "--repl-diskless-sync-delay", "0",
        ]  # fmt: skip

    def kill(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        return bool(self.client.ping())


class SentinelNode(Node):
    """One sentinel of the store `primary`."""

    def __init__(self, directory: Path, primary: int) -> None:
        self._file = directory / f"sentinel-{free_port()}.conf"
        self._file.write_text(
            f"sentinel monitor store 127.0.0.1 {primary} 2\nsentinel down-after-milliseconds store {SILENT_MS}\n"
            "sentinel failover-timeout store 3000\n"
        )
        super().__init__(directory)

    def words(self) -> list[str]:
        return [str(self._file), "--sentinel", "--port", str(self.port), "--bind", "127.0.0.1"]


class Nodes:
    """Several of them that are one store. `with …: url`, and `kill_primary` of what `key` lies in."""

    nodes: list[Node]
    replicas: slice  # which of them

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()

    def wipe(self) -> None:
        for node in self.nodes:
            if node.process.poll() is None and not isinstance(node, SentinelNode):
                try:
                    node.client.flushall()
                except RedisError:
                    continue  # a replica, which is wiped by its primary

    def await_replicas(self, keys: int) -> None:
        """Until they have so many of an empty store's keys, all together."""
        eventually(lambda: sum(node.client.dbsize() for node in self.nodes[self.replicas]) == keys)

    @property
    def url(self) -> str:
        raise NotImplementedError

    def kill_primary(self, key: str) -> None:
        raise NotImplementedError


class Cluster(Nodes):
    """Three primaries, each with a third of the slots and a replica."""

    replicas = slice(3, 6)

    def __init__(self, directory: Path) -> None:
        self.nodes = []
        try:
            buses = [str(free_port()) for _ in range(6)]
            for bus in buses:
                self.nodes.append(
                    Node(
                        directory, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", str(SILENT_MS),
                        "--cluster-replica-validity-factor", "0",
                    )
                )  # fmt: skip
            for node, bus in zip(self.nodes[1:], buses[1:], strict=True):
                self.nodes[0].client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
            bounds = [SLOTS * n // 3 for n in range(4)]
            for node, first, last in zip(self.nodes[:3], bounds[:-1], bounds[1:], strict=True):
                node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
            eventually(lambda: all(self._knows(node, "cluster_known_nodes:6") for node in self.nodes))
            for primary, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
                replica.client.execute_command(
                    "CLUSTER", "REPLICATE", primary.client.execute_command("CLUSTER", "MYID")
                )
            eventually(lambda: all(self._knows(node, "cluster_state:ok") for node in self.nodes))
            eventually(lambda: all(node.client.info("replication")["connected_slaves"] for node in self.nodes[:3]))
        except BaseException:
            self.__exit__()
            raise

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])

    def kill_primary(self, key: str) -> None:
        slot = int(self.nodes[1].client.execute_command("CLUSTER", "KEYSLOT", key))
        self.nodes[slot * 3 // SLOTS].kill()

    def _knows(self, node: Node, what: str) -> bool:
        return what.encode() in node.client.execute_command("CLUSTER", "INFO")


class Watched(Nodes):
    """A primary and a replica, over which three sentinels watch."""

    replicas = slice(1, 2)

    def __init__(self, directory: Path) -> None:
        self.nodes = []
        try:
            primary = Node(directory)
            self.nodes.append(primary)
            self.nodes.append(Node(directory, "--replicaof", "127.0.0.1", str(primary.port)))
            eventually(lambda: primary.client.info("replication")["connected_slaves"] == 1)
            self.sentinels = [SentinelNode(directory, primary.port) for _ in range(3)]
            self.nodes.extend(self.sentinels)
            eventually(lambda: all(_is_settled(sentinel) for sentinel in self.sentinels))
        except BaseException:
            self.__exit__()
            raise

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels) + "/store"

    def kill_primary(self, key: str) -> None:
        self.nodes[0].kill()


def eventually(what: Callable[[], bool]) -> None:
    """Wait until it is true."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            if what():
                return
        except (TimeoutError, RedisError, OSError):
            pass
        assert time.monotonic() < end, "the stores did not come about"
        time.sleep(0.02)


def _is_settled(sentinel: Node) -> bool:
    """It knows the other two, and the replica."""
    said = sentinel.client.execute_command("SENTINEL", "MASTER", "store")
    found = dict(zip(said[::2], said[1::2], strict=True)) if isinstance(said, list) else dict(said)
    texts = {str(_text(name)): str(_text(value)) for name, value in found.items()}
    return texts["num-other-sentinels"] == "2" and texts["num-slaves"] == "1"


def _text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value
