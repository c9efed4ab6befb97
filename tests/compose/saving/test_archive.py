"""A backup is believed only when all of it is there and nothing was changed."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cordee.compose.saving import sealing
from cordee.compose.saving.archive import HEAD_BYTES_MAX, WHOLE_BYTES_MAX, Reader, Writer
from cordee.compose.saving.problem import SavingError

ENTRIES = {"about.json": b"{}", "data/admin.key": b"ck-1", "data/services/files/ab/x": bytes(range(256)) * 5000}


def written(passphrase: bytes | None = None) -> bytes:
    sink = io.BytesIO()
    writer = Writer(sink, passphrase)
    for name, content in ENTRIES.items():
        writer.put(name, content)
    writer.close()
    return sink.getvalue()


def read(content: bytes, passphrase: bytes | None = None) -> dict[str, bytes]:
    return {one.name: b"".join(one.pieces()) for one in Reader.open(io.BytesIO(content), passphrase)}


PLAIN = written()
with pytest.MonkeyPatch.context() as cheap:
    cheap.setattr(sealing, "_COST", (4, 8, 1))  # what opening costs stands in the backup itself
    SEALED = written(b"correct horse battery")


def test_what_was_written_is_read() -> None:
    assert read(PLAIN) == ENTRIES
    assert read(SEALED, b"correct horse battery") == ENTRIES
    assert b"ck-1" not in SEALED


def test_entries_that_nobody_reads_are_checked_too() -> None:
    assert [one.name for one in Reader.open(io.BytesIO(PLAIN), None)] == list(ENTRIES)


def test_another_passphrase_opens_nothing_and_none_is_asked_for() -> None:
    with pytest.raises(SavingError, match="the passphrase is another one"):
        read(SEALED, b"incorrect horse battery")
    with pytest.raises(SavingError, match="--passphrase-file"):
        read(SEALED)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, len(PLAIN) - 1))
def test_a_backup_that_was_cut_off_is_refused(at: int) -> None:
    if at < len(PLAIN) - 64:  # behind the list stand only the ends of the tar and of gzip
        with pytest.raises(SavingError):
            read(PLAIN[:at])


@settings(max_examples=25, deadline=None)
@given(st.integers(64, len(SEALED) - 1), st.integers(1, 255))
def test_a_sealed_backup_that_was_changed_anywhere_is_refused(at: int, by: int) -> None:
    changed = bytearray(SEALED)
    changed[at] ^= by
    with pytest.raises(SavingError):
        read(bytes(changed), b"correct horse battery")


def test_a_content_that_is_not_the_listed_one_is_named() -> None:
    sink = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(gzip.decompress(PLAIN))) as tar,
        tarfile.open(fileobj=sink, mode="w:gz", format=tarfile.PAX_FORMAT) as out,
    ):
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            data = content.read().replace(b"ck-1", b"ck-2")
            out.addfile(member, io.BytesIO(data))
    with pytest.raises(SavingError, match=r"data/admin\.key.* is not what was saved"):
        read(sink.getvalue())


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "data/../../x", "other/x", "data//x", "data/./x", "x"])
def test_an_entry_that_would_lie_elsewhere_is_refused(name: str) -> None:
    sink = io.BytesIO()
    writer = Writer(sink, None)
    writer.put(name, b"")
    writer.close()
    with pytest.raises(SavingError, match="no place in an installation"):
        read(sink.getvalue())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_links_and_devices_are_refused(kind: bytes) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as out:
        info = tarfile.TarInfo("data/x")
        info.type, info.linkname = kind, "/etc/passwd"
        out.addfile(info)
    with pytest.raises(SavingError, match="no plain file"):
        read(sink.getvalue())


def _crafted(info: tarfile.TarInfo, content: bytes = b"") -> bytes:
    """A tar with one entry as it is said, whatever that is."""
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + content + bytes(2 * tarfile.RECORDSIZE))


def test_an_entry_that_would_be_larger_than_what_is_there_is_refused() -> None:
    """A sparse file of 8 EiB takes no room in a tar; a size below zero would be read to the end of the archive."""
    sparse = tarfile.TarInfo("data/x")
    sparse.type = tarfile.GNUTYPE_SPARSE
    with pytest.raises(SavingError, match="no plain file"):
        read(_crafted(sparse))
    named = tarfile.TarInfo("data/x")
    named.pax_headers = {"GNU.sparse.size": str(2**62), "GNU.sparse.map": f"{2**62},0", "GNU.sparse.name": "data/x"}
    with pytest.raises(SavingError, match="no plain file"):
        read(gzip.compress(named.tobuf(tarfile.PAX_FORMAT) + bytes(2 * tarfile.RECORDSIZE)))
    below = tarfile.TarInfo("data/x")
    below.size = -512
    with pytest.raises(SavingError):
        read(_crafted(below))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_what_is_said_of_an_entry_does_not_fill_the_memory(kind: bytes) -> None:
    remark = tarfile.TarInfo("x")
    remark.type, remark.size = kind, 2 * HEAD_BYTES_MAX
    with pytest.raises(SavingError, match="are said of an entry"):
        read(_crafted(remark, b"1" * 2 * HEAD_BYTES_MAX))


def test_many_entries_are_read_one_by_one() -> None:
    sink = io.BytesIO()
    writer = Writer(sink, None)
    for number in range(600):  # together more than may be said of one
        writer.put(f"data/{number}", b"")
    writer.close()
    assert len(read(sink.getvalue())) == 600


def test_what_a_backup_says_of_itself_is_short() -> None:
    sink = io.BytesIO()
    writer = Writer(sink, None)
    writer.put("about.json", bytes(WHOLE_BYTES_MAX + 1))
    writer.close()
    with pytest.raises(SavingError, match="which none of ours has"):
        next(iter(Reader.open(io.BytesIO(sink.getvalue()), None))).whole()


def test_what_is_something_else_is_said_to_be() -> None:
    with pytest.raises(SavingError, match="no backup of ours"):
        read(b"PK\3\4 something")


def test_a_source_that_became_shorter_is_no_backup() -> None:
    with pytest.raises(SavingError, match="became shorter"):
        Writer(io.BytesIO(), None).add("data/x", 10, io.BytesIO(b"short"))
