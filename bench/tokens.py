"""What a token costs a gateway: our own workers over the link, beside the same gateway in front of an OpenAI-compatible server.

    .venv/bin/python -m bench.tokens [--streams 200] [--seconds 6] [--reps 3]

The gateway has core 0 to itself; workers, the mock server and the load generator share core 1. CPU is user + system of the gateway
process, from /proc. One event a token, one token every 20 ms a stream, both ways. Also: idle memory, and memory per open stream.
Needs cc: it compiles the load generator and the mock server of bench/peers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import write
from tests.ports import free_port
from tests.rig import KEY, until

HERE = Path(__file__).parent / "peers"
GATEWAY_CPU, LOAD_CPU = "0", "1"
TOKENS = 50
TICK = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


class Setup:
    """A gateway with its replicas, ended with the block."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []
        environment = {
            **os.environ, "CORDEE_ADMIN_KEY": KEY, "CORDEE_ORACLE_TOKEN_S": "0.02", "CORDEE_ORACLE_FIRST_TOKEN_S": "0.02",
            "CORDEE_ORACLE_SLOTS": "20000",
        }  # fmt: skip
        replicas = []
        for number in (1, 2):
            if kind == "link":
                address = f"unix:{directory}/w{number}.sock"
                self._start(LOAD_CPU, environment, *self._cordee("worker", "--listen", address, "--name", f"w{number}"))
            else:
                port = free_port()
                self._start(LOAD_CPU, environment, str(directory / "mock"), str(port), f"chunks={TOKENS}", "delay=20")
                address = f"http://127.0.0.1:{port}"
            replicas += ["--replica", address]
        listen = f"127.0.0.1:{self.port}"
        self.gateway = self._start(GATEWAY_CPU, environment, *self._cordee("gateway", "--listen", listen, *replicas))
        self.model = "oracle" if kind == "link" else "mock-model"
        messages = [{"role": "user", "content": "Summarise the quarterly report in three sentences."}]
        body = {"model": self.model, "messages": messages, "max_tokens": TOKENS, "stream": True}
        if kind == "link":
            body["ignore_eos"] = True
        self.body = directory / "body.json"
        self.body.write_text(json.dumps(body, separators=(",", ":")))

    def __enter__(self) -> Setup:
        until(lambda: self.load(c=1, d=0.3)["ok"] > 0, "the gateway to answer")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def load(self, **settings: Any) -> dict[str, Any]:
        words = [f"{key}={value}" for key, value in {"stream": 1, "body": self.body, "key": KEY, **settings}.items()]
        command = ["taskset", "-c", LOAD_CPU, str(self.directory / "load"), str(self.port), *words]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        result: dict[str, Any] = json.loads(out)
        return result

    def _cordee(self, *command: str) -> list[str]:
        return [sys.executable, "-m", "cordee.cli", *command, "--data", str(self.directory), "--model", "oracle"]

    def _start(self, cpu: str, environment: dict[str, str], *command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["taskset", "-c", cpu, *command], env=environment, stdout=subprocess.DEVNULL,
            stderr=(self.directory / "log").open("ab"), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.processes.append(process)
        return process


def measure(kind: str, streams: int, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        for name in ("load", "mock"):
            subprocess.run(["cc", "-O2", "-o", f"{directory}/{name}", str(HERE / f"{name}.c")], check=True)
        with Setup(Path(directory), kind) as setup:
            pid = setup.gateway.pid
            idle = rss_kib(pid)
            before = cpu_s(pid)
            load = setup.load(c=streams, d=seconds, ramp=1000)
            used = cpu_s(pid) - before
            return {
                "replicas": kind,
                "cpu_ms_per_1000_tokens": used * 1e6 / load["events"],
                "tokens": load["events"],
                "failed": load["errors"],
                "ttft_p50_ms": load["ttft_ms"]["p50"],
                "idle_mb": idle / 1024,
            }


def memory(streams: int) -> dict[str, Any]:
    """KiB a stream with `streams` open at once over the link."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["cc", "-O2", "-o", f"{directory}/load", str(HERE / "load.c")], check=True)
        with Setup(Path(directory), "link") as setup:
            pid = setup.gateway.pid
            body = json.loads(setup.body.read_text())
            setup.body.write_text(json.dumps({**body, "max_tokens": 600}))
            before = rss_kib(pid)
            words = [
                f"c={streams}",
                "repeat=1",
                f"ramp={streams}",
                "d=9",
                "stream=1",
                f"body={setup.body}",
                f"key={KEY}",
            ]
            command = ["taskset", "-c", LOAD_CPU, f"{directory}/load", str(setup.port), *words]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as load:
                time.sleep(streams / 1000 + 3)
                after = rss_kib(pid)
                load.kill()
            return {"streams": streams, "kib_per_stream": round((after - before) / streams, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--reps", type=int, default=3)
    args = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {"link": [], "http": []}
    for _ in range(args.reps):
        for kind in rows:
            rows[kind].append(measure(kind, args.streams, args.seconds))
            print(rows[kind][-1], flush=True)
    medians = {kind: round(median(row["cpu_ms_per_1000_tokens"] for row in rows[kind]), 2) for kind in rows}
    figures = {
        "cpu_ms_per_1000_tokens": medians,
        "link_over_http": round(medians["link"] / medians["http"], 3),
        "idle_mb": round(median(row["idle_mb"] for row in rows["link"]), 1),
        "memory": memory(2000),
        "runs": rows,
    }
    print(figures["cpu_ms_per_1000_tokens"], figures["memory"])
    print(write("tokens", "What does a token cost a gateway, from our own workers and from another server?", figures))


if __name__ == "__main__":
    main()
