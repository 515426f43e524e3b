"""endcap ab start, drop, promote, stop, finish: from the command line to what is served."""

from __future__ import annotations

import json

import pytest

from endcap.cli.main import main
from endcap.store import Store
from tests.ab.shop import AbShop


def test_a_person_runs_a_test_from_the_command_line(shop_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    shop, place = AbShop(shop_store), ["--store", shop_store.root, "--by", "ann"]

    def run(*words: str) -> dict[str, object]:
        main(["ab", *words, *place, "--json"])
        document: dict[str, object] = json.loads(capsys.readouterr().out)
        return document

    assert run("start", "shoes", "2", "3", "4", "--why", "new")["kind"] == "begin"
    run("drop", "shoes", "2")
    assert shop.state.ab is not None
    assert list(shop.state.ab.arms) == ["challenger-2", "challenger-3"]
    main(["ab", "finish", "shoes", "--store", shop_store.root])
    assert "nothing is missing" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["registry", "promote", "shoes", "3", "--store", shop_store.root, "--json"])
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "ab.runs"
    run("promote", "shoes", "3", "--why", "sure")
    assert (shop.state.stable.version, shop.state.ab) == ("3", None)
    run("start", "shoes", "4")
    run("stop", "shoes")
    assert shop.state.stable.version == "3"
