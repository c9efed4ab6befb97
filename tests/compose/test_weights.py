"""The file that workers load is made once, found again, and never half there; without it the model's own one is served."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from cordee.adapters.model_sources import ModelError
from cordee.adapters.models import DEFAULT, ModelFile
from cordee.compose import weights
from cordee.compose.checked import look_first
from cordee.compose.quantizing import Source
from cordee.compose.serving import as_served
from cordee.compose.weights import WeightsError, as_loaded, file_to_load
from cordee.config.sections.models import Serve
from cordee.config.sections.processes import Engine
from cordee.config.tree import Config
from cordee.engine.fingerprint import file_sha256
from cordee.kernels.gguf import Header, Tensor, read_header
from cordee.kernels.library import KernelsError
from cordee.kernels.quantize import Kind
from tests.compose.test_checked import ALONE
from tests.engine.real import real_library, real_model
from tests.rig import Rig

Q4_1, Q8_0 = 3, 8
MADE = b"the weights, written anew"
Progress = Callable[[int, int], None]


class Bench:
    """A model whose header is as wanted, a library of two files, and kernels that write `MADE`, counted in `times`."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, kind: int = Q4_1) -> None:
        self.cache, self.lines, self.times = directory / "cache", list[str](), 0
        self.source, self.library = directory / "small.gguf", directory / "library"
        self.source.write_bytes(b"GGUF, as it came")
        self.library.mkdir()
        for name in ("libllama.so", "libggml-base.so"):
            (self.library / name).write_text(name)
        self.config = Config(
            model=str(self.source), engine=Engine(weights="q8_0", library=str(self.library)), edge=ALONE.edge
        )
        header = Header(3, {}, (Tensor("a.weight", (64, 64), kind, 0, 2560),), 32, 0)
        monkeypatch.setattr(weights, "whole_header", lambda path: header)
        monkeypatch.setattr(weights, "quantise", self.quantise)

    def quantise(self, source: Source, target: Path, kind: Kind, progress: Progress) -> None:
        assert (source.path, kind.name) == (self.source, "Q8_0")
        self.times += 1
        target.write_bytes(MADE)

    def load(self, config: Config | None = None, sha256: str | None = None) -> Path | None:
        found = ModelFile("small", self.source, sha256)
        return file_to_load(config or self.config, found, self.cache, self.lines.append)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def unasked(bench: Bench) -> Config:
    return structs.replace(bench.config, engine=structs.replace(bench.config.engine, weights="auto"))


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a processor without fast kernels says of itself."""
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags\t\t: fpu sse avx2 avx512f\n")
    monkeypatch.setattr(weights, "CPUINFO", info)
    return info


def test_unasked_a_small_model_is_written_anew_where_the_kernels_are_slow(bench: Bench, slow: Path) -> None:
    made = bench.load(unasked(bench))
    assert made is not None
    assert made.read_bytes() == MADE
    slow.write_text("processor : 0\nflags\t\t: fpu avx512f amx_tile amx_int8\n")
    assert bench.load(unasked(bench)) == bench.source
    slow.unlink()
    assert bench.load(unasked(bench)) == bench.source, "nobody knows which processor that is"


def test_unasked_a_large_model_is_used_as_it_is(bench: Bench, slow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "BEST_BYTES_MAX", 1000)
    assert bench.load(unasked(bench)) == bench.source
    assert (bench.times, bench.lines) == (0, [])


def test_unasked_what_cannot_be_written_anew_is_used_as_it_is(
    bench: Bench, slow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "free_bytes", lambda path: 1 << 20)
    assert bench.load(unasked(bench)) == bench.source
    assert "The file is used as it is" in bench.lines[0]

    def damaged(path: Path) -> Header:
        raise ModelError("not a model")

    monkeypatch.setattr(weights, "whole_header", damaged)
    assert bench.load(unasked(bench)) == bench.source, "and whoever loads it says what is wrong"


def test_unless_it_is_asked_for_nothing_is_looked_at(bench: Bench) -> None:
    assert bench.load(structs.replace(bench.config, engine=Engine(weights="file"))) == bench.source
    assert file_to_load(bench.config, ModelFile("oracle", None, None), bench.cache, bench.lines.append) is None
    assert not bench.lines


def test_it_is_made_once_and_found_at_every_later_start(bench: Bench) -> None:
    made = bench.load()
    assert made is not None
    assert made.read_bytes() == MADE
    assert [line.split(":")[0] for line in bench.lines] == ["small", "small"]
    assert bench.load() == made
    assert (bench.times, len(bench.lines)) == (1, 2)


def test_its_name_says_what_it_was_made_from_as_what_and_by_which_build(bench: Bench) -> None:
    first = bench.load()
    assert first is not None
    assert first.name.startswith(file_sha256(bench.source) + "-q8_0-")
    assert bench.load(sha256=file_sha256(bench.source)) == first  # a pinned file is not read to know its name
    (bench.library / "libllama.so").write_text("another build")
    second = bench.load()
    assert second not in (None, first)
    assert not first.exists()  # one remains for each model
    bench.source.write_bytes(b"GGUF, another one")
    assert bench.load() not in (first, second)
    assert second is not None
    assert second.exists()
    assert bench.times == 3


def test_one_that_was_damaged_is_made_again(bench: Bench) -> None:
    made = bench.load()
    assert made is not None
    made.write_bytes(MADE[:-1])
    assert bench.load() == made
    assert made.read_bytes() == MADE
    made.with_name(made.name + ".sha256").unlink()  # as a crash between the file and its record leaves it
    assert bench.load() == made
    assert bench.times == 3


def test_two_that_start_at_once_make_it_once(bench: Bench) -> None:
    threads = [threading.Thread(target=bench.load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.times == 1


def test_a_file_that_would_not_get_faster_is_used_as_it_is_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, monkeypatch, Q8_0)
    assert bench.load() == bench.source
    assert "changes nothing: most of its weights are Q8_0" in bench.lines[0]
    assert not bench.cache.exists()


def test_no_room_is_refused_before_anything_is_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "free_bytes", lambda directory: 1 << 20)
    with pytest.raises(WeightsError, match=r'1 MiB are free.*CORDEE_CACHE.*engine.weights = "file"'):
        bench.load()
    assert bench.times == 0


def test_kernels_that_end_their_process_are_an_error_with_the_cure(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(source: Source, target: Path, kind: Kind, progress: Progress) -> None:
        raise KernelsError("the kernels ended their process by SIGABRT")

    monkeypatch.setattr(weights, "quantise", crash)
    with pytest.raises(WeightsError, match=r'SIGABRT; or use the file as it is: engine.weights = "file"'):
        bench.load()


def test_a_cache_that_cannot_be_written_is_named(bench: Bench) -> None:
    bench.cache.write_text("a file where the directory should be")
    with pytest.raises(WeightsError, match="CORDEE_CACHE"):
        bench.load()


def test_a_pinned_source_that_is_another_one_is_not_written_anew(bench: Bench) -> None:
    with pytest.raises(ModelError, match="its SHA-256 is not 0000"):
        bench.load(sha256="0" * 64)
    assert bench.times == 0


def test_an_engine_keeps_the_name_of_the_model(bench: Bench) -> None:
    config, name = as_loaded(bench.config, "", bench.cache, bench.lines.append)
    assert (Path(config.model), name) == (bench.load(), "small")
    assert as_loaded(bench.config, "other", bench.cache, bench.lines.append)[1] == "other"
    plain = structs.replace(bench.config, engine=Engine())
    assert as_loaded(plain, "", bench.cache, bench.lines.append) == (plain, "")


def test_a_further_model_has_its_own_wish_or_that_of_the_engine() -> None:
    asked = Config(engine=Engine(weights="q8_0"))
    assert as_served(asked, Serve(model="a.gguf")).engine.weights == "q8_0"
    assert as_served(asked, Serve(model="a.gguf", weights="file")).engine.weights == "file"
    assert as_served(Config(), Serve(model="a.gguf", weights="q8_0")).engine.weights == "q8_0"


def cache_with_the_models(directory: Path) -> Path:
    """A cache of its own that shares models and kernels with the real one."""
    kernels, model = real_library().directory, real_model()
    (directory / "models").mkdir()
    for path in (model, model.with_name(model.name + ".sha256")):
        (directory / "models" / path.name).symlink_to(path)
    (directory / "kernels").symlink_to(kernels.parent)
    return directory


@pytest.mark.model
@pytest.mark.timeout(120)
def test_a_platform_writes_the_default_model_anew_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = cache_with_the_models(tmp_path)
    environ = {**os.environ, "CORDEE_CACHE": str(cache)}
    again = (Serve(model=DEFAULT, name="again", load="demand"), Serve(model=DEFAULT, name="plain", weights="file"))
    config = structs.replace(ALONE, model=DEFAULT, engine=Engine(weights="q8_0"), serve=again)
    found = look_first(config, environ)
    made = found.files[DEFAULT]
    assert made is not None
    assert found.files == {DEFAULT: made, "again": made, "plain": cache / "models" / f"{DEFAULT}.gguf"}
    assert found.model == DEFAULT
    assert capsys.readouterr().err.count("written anew as Q8_0, once") == 1
    assert {tensor.type for tensor in read_header(made).tensors if len(tensor.shape) > 1} == {Q8_0}
    assert sorted(os.listdir(made.parent)) == sorted([".lock", made.name, made.name + ".sha256"])
    assert look_first(config, environ).files == found.files
    assert not capsys.readouterr().err


@pytest.mark.e2e
@pytest.mark.model
@pytest.mark.timeout(120)
def test_a_worker_alone_writes_it_anew_before_it_gives_up_its_rights_and_serves_under_the_models_name(
    tmp_path: Path,
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    environment = {"CORDEE_CACHE": str(cache_with_the_models(cache)), "CORDEE_ENGINE_WEIGHTS": "q8_0"}
    environment |= {"CORDEE_ENGINE_SLOTS": "2", "CORDEE_ENGINE_CONTEXT": "256", "CORDEE_ENGINE_THREADS": "1"}
    with Rig(tmp_path, DEFAULT, workers=1, environment=environment) as rig:
        assert "written anew as Q8_0, once" in rig.log("worker-1")
        asked = {"model": DEFAULT, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}
        status, answer = rig.post("/v1/chat/completions", asked)
        assert (status, answer["model"]) == (200, DEFAULT)
        maps = Path(f"/proc/{rig.workers[0].pid}/maps").read_text()
        assert f"{cache}/models/encoded/" in maps
        rig.kill_worker(0)
        rig.restart_worker(0)
        rig.wait_ready()
        assert rig.log("worker-1").count("written anew as Q8_0, once") == 1
