from __future__ import annotations

import json

import msgspec
import pytest

from cordee.wire.reroute import with_model


def test_only_the_model_changes() -> None:
    body = b'{"seed": 123456789012345678901, "model": "a", "x": {"model": "a", "y": 1.10}}'
    changed = with_model(body, 'b/"c')
    assert json.loads(changed) == {**json.loads(body), "model": 'b/"c'}
    assert b"1.10" in changed


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"'])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        with_model(body, "b")
