"""Shoppers are taken out of samples, and nobody else."""

from __future__ import annotations

from pathlib import Path

from endcap.samples import read_samples
from endcap.samples.erasure import count_shoppers, erase_shoppers, list_recommenders
from endcap.samples.files import FileDescription, decode_file, encode_file, get_day, name_file
from endcap.samples.places import open_place
from tests.samples.examples import NOON, make_sample


def test_rows_of_a_shopper_go_and_all_else_stays(tmp_path: Path) -> None:
    place = open_place(str(tmp_path))
    rows = [
        make_sample(0, customer="p-1"),
        make_sample(1, customer="p-11"),
        make_sample(2, customer=None, session="s-1"),
        make_sample(3, customer=None, session=None),
        make_sample(4, customer=None, session="s-2"),
    ]
    name = name_file("home", get_day(NOON), "pod-1", 0)
    description = FileDescription("pod-1", 0, ended=True, outcomes={"written": 5})
    place.write(name, encode_file(rows, description))
    untouched = name_file("home", get_day(NOON), "pod-2", 0)
    place.write(untouched, encode_file([make_sample(5)], FileDescription("pod-2", 0)))
    before = place.read(untouched)

    assert list_recommenders(place) == ["home"]
    assert count_shoppers(place, "home", ["p-1"], ["s-1"]) == 2
    assert erase_shoppers(place, "home", ["p-1"], ["s-1"]) == 2
    assert erase_shoppers(place, "home", ["p-1"], ["s-1"]) == 0
    assert [sample.number for sample in read_samples(str(tmp_path), "home")] == [1, 3, 4, 5]
    content = place.read(name)
    assert content is not None
    assert decode_file(content, name)[1] == description
    assert place.read(untouched) == before
