"""A segment is believed as far as its frames are whole."""

from __future__ import annotations

import os
import zlib
from itertools import chain
from pathlib import Path

import pytest

from endcap_serving.intake.damaged_segments import CUT, cut_torn_tail
from endcap_serving.intake.segments import FRAME, HEADER, SegmentContent, SegmentFolder, encode_frame, read_segment

LINES = [[b'{"id":"a1"}', '{"id":"ä2"}'.encode()], [b'{"id":"b1"}'], [b'{"id":"c1"}', b'{"id":"c2"}', b'{"id":"c3"}']]
ALL = list(chain(*LINES))
FRAMES = [encode_frame(kind, range(10 * kind, 10 * kind + len(lines)), lines) for kind, lines in enumerate(LINES)]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    segment = SegmentFolder(tmp_path).open(now=1_767_268_800_000)
    for one in FRAMES:
        segment.append(one)
    segment.close()
    return segment.file


def read_records(content: SegmentContent) -> list[bytes]:
    return [record for one in content.frames for record in one.list_records()]


def lines(file: Path) -> list[bytes]:
    return read_records(read_segment(file))


def test_a_segment_is_read_as_it_was_written(written: Path) -> None:
    content = read_segment(written)
    assert (content.opened, content.end, content.damaged) == (1_767_268_800_000, written.stat().st_size, 0)
    assert [one.kind for one in content.frames] == [0, 1, 2]
    assert [one.hashes.tolist() for one in content.frames] == [[0, 1], [10], [20, 21, 22]]
    assert lines(written) == ALL
    assert (content.tail, content.torn) == (0, False)


def test_a_tail_torn_anywhere_is_cut_to_the_last_whole_frame_and_kept(written: Path) -> None:
    whole = written.read_bytes()
    ends = [HEADER.size + sum(map(len, FRAMES[:count])) for count in range(len(FRAMES) + 1)]
    for length in range(len(whole)):
        written.write_bytes(whole[:length])
        content = read_segment(written)
        good = sum(end <= length for end in ends) - 1
        assert read_records(content) == list(chain(*LINES[: max(good, 0)]))
        assert content.end == (ends[good] if good >= 0 else 0)
        assert content.torn == (content.tail > 0)
    cut_torn_tail(written, content)
    beside = written.with_name(f"{written.name}{CUT}{content.end}")
    assert beside.read_bytes() == whole[content.end : length]
    assert beside.stat().st_mode & 0o777 == 0o600
    assert written.read_bytes() == whole[: content.end]
    assert (read_segment(written).damaged, read_segment(written).tail) == (0, 0)


def test_a_bad_tail_that_no_kill_leaves_is_damage(written: Path) -> None:
    """Its length is whole, or what stands there is no beginning of a frame."""
    whole = written.read_bytes()
    last = len(whole) - len(FRAMES[2])
    for place in range(last, len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 0x41
        written.write_bytes(changed)
        content = read_segment(written)
        assert read_records(content) == LINES[0] + LINES[1]
        assert (content.tail, content.torn) == (len(FRAMES[2]), False), place
    for garbage in (b"\0" * 7, b"\0" * 4096, b"garbage" * 9, FRAMES[0][: FRAME.size] + b"\0" * 500):
        written.write_bytes(whole + garbage)
        assert (read_records(read_segment(written)), read_segment(written).torn) == (ALL, False)
    written.write_bytes(b"\0" * len(whole))
    assert (read_segment(written).tail, read_segment(written).torn) == (len(whole), False)


def test_frames_of_the_first_release_are_read(written: Path) -> None:
    """They have three zeros where the check of the head is now."""
    old = encode_frame(1, [7], [b'{"id":"old"}'])
    head = old[:5] + b"\0\0\0" + old[8:16]
    old = head + zlib.crc32(old[FRAME.size :], zlib.crc32(head)).to_bytes(4, "little") + old[FRAME.size :]
    whole = written.read_bytes()
    written.write_bytes(whole + old + FRAMES[0])
    assert lines(written) == [*ALL, b'{"id":"old"}', *LINES[0]]
    written.write_bytes(whole + old[:-3])
    assert (lines(written), read_segment(written).torn) == (ALL, True)


def test_a_changed_frame_is_damage_and_the_others_are_read(written: Path) -> None:
    whole = bytearray(written.read_bytes())
    second = HEADER.size + len(FRAMES[0])
    for place in range(second, second + len(FRAMES[1])):
        changed = whole.copy()
        changed[place] ^= 0x10
        written.write_bytes(changed)
        assert lines(written) == LINES[0] + LINES[2]
        assert read_segment(written).damaged == 1
    changed = whole.copy()
    changed[3] ^= 1
    written.write_bytes(changed)
    assert lines(written) == ALL
    assert abs(read_segment(written).opened / 1000 - written.stat().st_mtime) < 1


def test_a_write_that_fails_half_way_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = SegmentFolder(tmp_path).open(now=0)
    segment.append(FRAMES[0])
    before, pwrite = segment.file.read_bytes(), os.pwrite

    def half(handle: int, content: memoryview, position: int) -> int:
        if position > len(before):
            raise OSError(28, "No space left on device")
        return pwrite(handle, content[: len(content) // 2], position)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(OSError, match="No space left"):
        segment.append(FRAMES[1])
    assert segment.file.read_bytes() == before
    monkeypatch.undo()
    segment.append(FRAMES[2])
    assert lines(segment.file) == LINES[0] + LINES[2]
    segment.close()


def test_sequence_numbers_only_grow(tmp_path: Path) -> None:
    """Whatever was removed, whichever way the clock goes, and where the note of the next one is lost."""
    names = []
    for now in (2_000_000, 1_000_000, 0):
        segment = SegmentFolder(tmp_path).open(now)
        segment.append(FRAMES[0])
        segment.close()
        names.append(segment.file.name)
        if now == 2_000_000:
            SegmentFolder(tmp_path).remove(segment.file)
    assert names == sorted(names)
    (tmp_path / "next-sequence").unlink()
    assert SegmentFolder(tmp_path).open(0).file.name > names[-1]
