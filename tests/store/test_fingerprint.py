"""What outputs are addressed by."""

from __future__ import annotations

import json

from endcap.store import fingerprint


def test_fingerprints_depend_on_content_and_not_on_order() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint(json.loads('{"b": [1, 2], "a": 1}'))
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
