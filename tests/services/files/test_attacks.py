"""What is handed in as a file is bytes, whatever it is; and what is said of it never becomes a header, a path or a program."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
import zlib
from typing import Any

import pytest

from tests.services.files.conftest import MIB, House

pytestmark = pytest.mark.anyio
HELD_BACK = {"content-security-policy": "default-src 'none'; sandbox", "x-content-type-options": "nosniff"}


def zipped(name: str, content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return made.getvalue()


def slipping() -> bytes:
    """A tar with a way out of its directory, and a link to a file of the system."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../../etc/cron.d/x"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return made.getvalue()


BOMB = zipped("zeros", bytes(32 * MIB))
NESTED = zipped("inner.zip", zipped("inner.zip", BOMB))
ARCHIVES = {
    "a zip bomb": (BOMB, "application/zip"), "archives in archives": (NESTED, "application/zip"),
    "a gzip bomb": (gzip.compress(bytes(32 * MIB)), "application/gzip"), "a tar that slips": (slipping(), "application/x-tar"),
    "a zip that slips": (zipped("../../x", b"x"), "application/zip"),
    "an image and a page": (b"GIF89a/*<script>alert(1)</script>*/=1;", "image/gif"),
    "a drawing with a script": (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "image/svg+xml"),
    "a table with a formula": (b'=HYPERLINK("http://x","y")\n', "text/csv"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
async def test_an_archive_is_kept_and_given_back_as_the_bytes_it_is(house: House, name: str):
    content, kind = ARCHIVES[name]
    made = await house.made(content, name="../a.zip", kind=kind)
    assert made["bytes"] == len(content)
    [stored] = house.stored()
    assert stored.stat().st_size < len(content) + 1024  # nothing of it was unpacked
    answer = await house.ask("GET", f"/v1/files/{made['id']}/content")
    assert answer.content == content
    assert {header: answer.headers[header] for header in HELD_BACK} == HELD_BACK
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-type"] not in ("text/html", "image/svg+xml")


NAMES = [
    "a\r\nSet-Cookie: x=1", 'a"; filename="b.html', "a\\", "..", "\u202egpj.exe", "ü€\U0001f600.txt", "a;b=c", "%0d%0aX: y", "'''", "\x00",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_a_name_stays_within_its_header(house: House, name: str):
    given = {"bytes": 1, "filename": name, "mime_type": "text/plain\r\nX: y", "purpose": "user_data"}
    upload = await house.ask("POST", "/v1/uploads", json=given)
    assert upload.status_code in (200, 400), upload.text
    begun = await house.ask("POST", "/v1/uploads", json=given | {"mime_type": "text/plain"})
    assert begun.status_code == 200, begun.text
    part = (await house.part(begun.json()["id"], b"x")).json()["id"]
    done = await house.ok("POST", f"/v1/uploads/{begun.json()['id']}/complete", json={"part_ids": [part]})
    answer = await house.ask("GET", f"/v1/files/{done['file']['id']}/content")
    disposition = answer.headers["content-disposition"]
    assert set(answer.headers) & {"set-cookie", "x"} == set()
    assert disposition.isascii()
    assert disposition.isprintable()
    plain = disposition.removeprefix('attachment; filename="').partition("\"; filename*=UTF-8''")
    assert not set(plain[0]) & set('"\\;%\r\n/')
    assert not set(plain[2]) & set(" \"';\r\n/")


async def test_what_is_compressed_on_the_way_is_not_read_as_if_it_were_plain(house: House):
    """Gateways refuse a Content-Encoding (415); here such a body is none."""
    body = zlib.compress(b'{"bytes": 1, "filename": "a", "mime_type": "a/b", "purpose": "user_data"}')
    headers = {"content-encoding": "deflate", "content-type": "application/json"}
    answer = await house.ask("POST", "/v1/uploads", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


HEAD = b'--b\r\nContent-Disposition: form-data; name="'
END = b"\r\n--b--\r\n"
MANGLED: dict[str, bytes] = {
    "no end": HEAD + b'file"; filename="a"\r\n\r\nx', "a name twice": HEAD + b'purpose"; name="file"\r\n\r\nuser_data' + END,
    "a name without an end": HEAD + b'file"; filename="a' + END, "endless heads": b"--b\r\n" + b"X-A: b\r\n" * 100_000,
    "no head": b"--b\r\n\r\nx" + END, "another boundary": b"--other\r\n\r\nx\r\n--other--\r\n", "nothing": b"",
    "a length in a part": b"--b\r\nContent-Length: -1\r\n" + HEAD[5:] + b'purpose"\r\n\r\nuser_data' + END,
    "NUL in a name": HEAD + b'fi\x00le"\r\n\r\nx' + END, "no UTF-8": HEAD + b'purpose"\r\n\r\n\xff\xfe' + END,
}  # fmt: skip


@pytest.mark.parametrize("name", MANGLED)
async def test_a_mangled_form_is_a_400_and_leaves_nothing(house: House, name: str):
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = await house.ask("POST", "/v1/files", content=MANGLED[name], headers=headers)
    error: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error"), answer.text
    assert len(answer.content) < 1024
    assert house.stored() == []
