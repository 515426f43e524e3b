"""Files of samples: what is written is read, in a folder and in a bucket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from endcap.errors import IntegrityError, UserError
from endcap.rules import Catalogue
from endcap.samples import SampledRequest, files, read_catalogue, read_samples
from endcap.samples.files import FileDescription, decode_file, encode_file, get_day, name_catalogue, name_file
from endcap.samples.places import open_place
from endcap.spec.rules import Rules
from tests.samples.examples import NOON, make_sample

DAY = 86_400_000
SCORE = float(np.float32(0.1))


def write_day(address: str, samples: list[SampledRequest], sequence: int = 0) -> None:
    name = name_file("home", get_day(samples[0].time), "pod-1", sequence)
    open_place(address).write(name, encode_file(samples, FileDescription("pod-1", sequence)))


def test_samples_are_read_as_they_were(tmp_path: Path) -> None:
    samples = [
        make_sample(0, scores=[SCORE, None]),
        make_sample(1, scores=[SCORE], items=["q"], stored_list=None, events=[], owned=[], fallback=None),
    ]
    write_day(str(tmp_path), samples)
    assert list(read_samples(str(tmp_path), "home")) == samples
    assert list(read_samples(str(tmp_path), "other")) == []
    request = samples[0].parse_request()
    assert (request.customer, request.session, request.k, request.filters) == ("p-c", None, 2, {"brand": ["a"]})


def test_bounds_of_time_choose_rows_of_the_days_that_they_meet(tmp_path: Path) -> None:
    for day in range(3):
        write_day(str(tmp_path), [make_sample(time=NOON + day * DAY + second) for second in range(2)], day)
    since = datetime.fromtimestamp((NOON + 1) / 1000, UTC)
    until = since + timedelta(days=1)
    assert [sample.time for sample in read_samples(str(tmp_path), "home", since, until)] == [NOON + 1, NOON + DAY]


def test_a_catalogue_is_read_by_its_version(tmp_path: Path) -> None:
    catalogue = Catalogue(Rules(), read_time=NOON)
    name = name_catalogue("home", get_day(NOON), catalogue.version)
    open_place(str(tmp_path)).write(name, catalogue.to_bytes())
    read = read_catalogue(str(tmp_path), "home", catalogue.version)
    assert read is not None
    assert read.version == catalogue.version
    assert read_catalogue(str(tmp_path), "home", "another") is None
    assert list(read_samples(str(tmp_path), "home")) == []


def test_a_damaged_file_and_a_newer_one_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IntegrityError) as damaged:
        decode_file(b"PAR1", "a")
    assert damaged.value.code == "samples.file-damaged"
    with monkeypatch.context() as newer_release:
        newer_release.setattr(files, "FORMAT", files.FORMAT + 1)
        newer = encode_file([], FileDescription("pod", 0))
    with pytest.raises(IntegrityError) as refused:
        decode_file(newer, "a")
    assert refused.value.code == "samples.newer-format"


def test_an_address_of_another_scheme_is_refused() -> None:
    with pytest.raises(UserError) as refused:
        open_place("gs://bucket/samples")
    assert refused.value.code == "samples.address-unknown"
