"""The same in a bucket: a writer's files, the catalogue, old days, erasure."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from endcap.pseudonyms import Pseudonymiser
from endcap.ranking import Answer, RankRequest, ShopperContext
from endcap.rules import Catalogue
from endcap.samples import read_catalogue, read_samples
from endcap.samples.erasure import erase_shoppers, list_recommenders
from endcap.samples.files import name_file
from endcap.samples.observation import Observation
from endcap.samples.places import open_place
from endcap.samples.writer import SampleWriter
from endcap.spec.rules import Rules
from tests.store.servers import S3Place, moto

PSEUDONYMS = Pseudonymiser(b"a key of these tests")


def test_a_bucket_holds_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with moto() as server:
        address = f"s3://{S3Place(server, tmp_path, monkeypatch).bucket}/logs/samples"
        place = open_place(address)
        today = datetime.now(UTC).date()
        old = [name_file("home", today - timedelta(days=age), "pod-0", 0) for age in (8, 9)]
        for name in old:
            place.write(name, b"")
        counted = Counter[str]()
        writer = SampleWriter(
            lambda: open_place(address),
            "home",
            "pod-1",
            PSEUDONYMS,
            keep=timedelta(days=3),
            count=lambda outcome, rankings: counted.update({outcome: rankings}),
        )
        catalogue = Catalogue(Rules(), blacklist=frozenset({"x"}), read_time=5)
        for number, customer in enumerate(["ann", "bob"]):
            request = RankRequest(items=["a"], customer=customer)
            answer, now = Answer(["b"], [0.5]), time.time_ns() // 1_000_000
            ranking_id = f"t.{number}"
            writer.offer(
                Observation(ranking_id, number, "3", "stable", now, request, ShopperContext(), answer, False, catalogue)
            )
        writer.close(60)
        assert counted == {"written": 2}
        assert [sample.ranking_id for sample in read_samples(address, "home")] == ["t.0", "t.1"]
        assert not set(old) & set(place.list("home/"))
        read = read_catalogue(address, "home", catalogue.version)
        assert read is not None
        assert read.version == catalogue.version
        assert list_recommenders(place) == ["home"]
        assert erase_shoppers(place, "home", [PSEUDONYMS.pseudonymise("ann")]) == 1
        assert [sample.ranking_id for sample in read_samples(address, "home")] == ["t.1"]
