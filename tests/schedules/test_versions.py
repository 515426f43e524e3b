"""Markers stand for the data beside them, in a bucket as in a folder."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest

from endcap.schedules.versions import read_listing
from endcap.spec.load import Loaded, load
from endcap.spec.schedule import ArrivalSpec, PartSchedule
from endcap.spec.shop import Shop
from endcap.spec.spec_files import find_spec
from endcap.store import Store
from tests.store.servers import moto

MARKED = PartSchedule(arrival=ArrivalSpec(marker="_SUCCESS"))


def _load(path: str) -> Loaded:
    columns = {"session": "s", "item": "i", "time": "t", "type": "y"}
    events = {"sources": [{"path": path}], "columns": columns, "types": ["view"]}
    shop = Shop.model_validate({"apiVersion": "endcap/v2", "kind": "Shop", "name": "shoes", "events": events})
    return Loaded(load(find_spec("trial")).recommender, shop, [])


def test_markers_in_a_bucket(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with moto() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        client = server.client()
        client.make_bucket("log")

        def put(name: str) -> None:
            client.put_object("log", name, BytesIO(b"1"), 1)

        sources = [_load(f"s3://log/{path}") for path in ("shoes", "shoes/day=*/*.csv", "shoes/log.csv")]
        put("hats/_SUCCESS")
        put("shoes/day=1/1.csv")
        assert [read_listing(loaded, "train", MARKED, store).version for loaded in sources] == ["", "", ""]
        put("shoes/day=1/_SUCCESS")
        first = [read_listing(loaded, "train", MARKED, store).version for loaded in sources]
        assert "" not in first
        put("shoes/_SUCCESS")
        second = [read_listing(loaded, "train", MARKED, store).version for loaded in sources]
        assert not set(first) & {"", *second}


def test_data_beside_no_marker_are_not_there_yet(store: Store, tmp_path: Path) -> None:
    loaded = _load(str(tmp_path / "log"))
    (tmp_path / "log").mkdir()
    plain = PartSchedule(arrival=ArrivalSpec())
    assert read_listing(loaded, "train", plain, store).version == ""
    (tmp_path / "log" / "1.csv").write_text("s,i,t,y\n")
    assert read_listing(loaded, "train", MARKED, store).version == ""
    plain_version, batch_version = (read_listing(loaded, part, plain, store).version for part in ("train", "batch"))
    assert plain_version != batch_version
