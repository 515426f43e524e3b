"""What the disk changes is told from what a kill cuts, is kept, and costs nobody else's records; nor does a clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap_serving.intake import damaged_segments
from endcap_serving.intake.known_ids import KnownIds, hash_id
from endcap_serving.intake.segments import HEADER
from tests.intake.servers import Server, events, eventually, ids, run_server
from tests.intake.test_sealing import make_batch, run_intake, settings, write_closed_segment


def write_segment(folder: Path, *names: str) -> Path:
    """A segment with a frame for each of the names, acknowledged, of an intake that was killed."""
    server = Server(folder, "--segment-age", "1h")
    for name in names:
        assert server.post("events", events([name])).status_code == 200
    server.kill()
    server.client.close()
    (segment,) = (folder / "intake" / "segments").glob("*.log")
    return segment


def flip_bits(file: Path, place: int) -> bytes:
    """Flip bits in a byte of a file; the whole as it was."""
    whole = file.read_bytes()
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
    return whole


def test_a_last_frame_that_the_disk_changed_is_kept_counted_and_shown(tmp_path: Path) -> None:
    segment = write_segment(tmp_path, "a", "b", "c")
    whole = segment.read_bytes()
    flip_bits(segment, len(whole) - 40)
    bad = segment.read_bytes()
    with run_server(tmp_path) as server:
        eventually(lambda: not segment.exists())
        assert server.metric("endcap_intake_damaged_segments_total") == 1
        assert server.metric("endcap_intake_cut_tails_total") == 0
        assert server.metric("endcap_intake_kept_bytes") == len(bad)
        assert server.client.get("/readyz").json() == {"ready": True, "damaged_segments": 1}
        assert "intake.segment-damaged" in server.log.read_text()
        # Whoever sends it again is heard: its hash went with its frame.
        assert server.post("events", events(["a", "b", "c"])).json() == {"accepted": 1, "duplicates": 2}
    beside = segment.with_suffix(damaged_segments.DAMAGED)
    assert beside.read_bytes() == bad
    assert beside.stat().st_mode & 0o777 == 0o600
    assert sorted(ids(server.out)) == ["a", "b", "c"]


def test_a_bad_tail_of_a_segment_that_is_not_the_newest_is_damage(tmp_path: Path) -> None:
    """Though it looks torn: nothing was being written there."""
    folder = tmp_path / "intake"
    older, newer = write_closed_segment(folder), write_closed_segment(folder, count=1)
    for file in (older, newer):
        file.write_bytes(file.read_bytes() + file.read_bytes()[HEADER.size : -9])
    run_intake(settings(tmp_path))
    left = sorted(file.name for file in older.parent.iterdir())
    assert left == [
        older.with_suffix(damaged_segments.DAMAGED).name,
        f"{newer.name}{damaged_segments.CUT}{_good(newer)}",
    ]


def _good(file: Path) -> int:
    return int(next(file.parent.glob(f"{file.name}{damaged_segments.CUT}*")).name.rpartition("-")[2])


def test_a_segment_without_a_good_frame_is_kept_too(tmp_path: Path) -> None:
    file = write_closed_segment(tmp_path / "intake")
    file.write_bytes(b"\0" * 5000)
    run_intake(settings(tmp_path))
    assert [one.name for one in file.parent.iterdir()] == [file.with_suffix(damaged_segments.DAMAGED).name]


def test_the_number_of_kept_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damaged_segments, "MOST_FILES", 2)
    for number in range(4):
        (tmp_path / f"{number:012d}.log{damaged_segments.CUT}20").write_bytes(b"x")
    damaged_segments.remove_oldest(tmp_path)
    assert [file.name[11] for file in damaged_segments.list_files(tmp_path)] == ["2", "3"]


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 24, b"\0" * 13], ids=["empty", "short", "flipped", "cut"])
def test_files_of_ids_that_the_disk_changed_end_no_start(tmp_path: Path, content: bytes) -> None:
    first = make_batch("events", *({"id": f"x{at}", "item": "p", "session": "s"} for at in range(3)))
    run_intake(settings(tmp_path), first)
    (file,) = (tmp_path / "intake" / "ids").iterdir()
    file.write_bytes(file.read_bytes()[:8] + content if content == b"\xff" * 24 else content)
    (file.parent / "another.ids").write_bytes(b"none of ours")
    run_intake(settings(tmp_path), again := make_batch("events", {"id": "y", "item": "p", "session": "s"}))
    assert len(again.accepted) == 1


@pytest.mark.parametrize("name", ["next-sequence", "mark"])
def test_a_note_that_is_lost_or_changed_has_nothing_written_over(tmp_path: Path, name: str) -> None:
    """What was sealed left no segment that would tell its number."""
    place = tmp_path / "intake" / name
    for number, spoil in enumerate((lambda: None, place.unlink, lambda: place.write_bytes(b"\xff../"))):
        spoil()
        run_intake(settings(tmp_path), one := make_batch("events", {"id": f"x{number}", "item": "p", "session": "s"}))
        assert len(one.accepted) == 1
    assert sorted(ids(tmp_path / "out")) == ["x0", "x1", "x2"]
    run_intake(
        settings(tmp_path),
        again := make_batch("events", *({"id": f"x{n}", "item": "p", "session": "s"} for n in range(3))),
    )
    assert again.duplicates == 3


YEAR = 365 * 86_400.0


@pytest.mark.slow
def test_a_start_with_a_wrong_clock_forgets_no_id(tmp_path: Path) -> None:
    sent: list[str] = []
    for life, skew in enumerate((-48 * 3600.0, 0.0, 40 * YEAR, -3 * 3600.0)):
        with run_server(tmp_path, skew=skew) as server:
            if sent:
                assert server.post("events", events(sent)).json() == {"accepted": 0, "duplicates": len(sent)}
            assert server.post("events", events([f"e{life}"])).json() == {"accepted": 1, "duplicates": 0}
            sent.append(f"e{life}")
    assert sorted(ids(server.out)) == sent


def test_where_the_clock_is_surely_wrong_nothing_is_taken_or_refused_for_good(tmp_path: Path) -> None:
    """In 1970 each record that says its time would be a day ahead, and refused as wrong."""
    with run_server(tmp_path, skew=-56 * YEAR) as server:
        answer = server.post("events", events(["a"]))
        assert (answer.status_code, answer.json()["code"]) == (503, "intake.clock-wrong")
        assert int(answer.headers["retry-after"]) > 0
        ready = server.client.get("/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "intake.clock-wrong")
        assert server.client.get("/healthz").status_code == 200


def test_ids_of_a_clock_in_1970_are_known_when_it_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As release 0.1.0 wrote them: stamps that are years apart, one after the other."""
    seen = KnownIds(tmp_path)
    number = hash_id(b"events", "a")
    seen.add([number])
    seen.close(1)
    seen.keep_or_remember(1, [])
    (tmp_path / "ids" / "000000000086400-000000000001-000000000001.ids").write_bytes(number.to_bytes(8, "little"))
    again = KnownIds(tmp_path)
    again.tidy()
    assert again.find_known([number]) == {number}
