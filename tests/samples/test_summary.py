"""What `endcap samples` shows of each process."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from click.testing import CliRunner

from endcap.cli.samples import command
from endcap.samples.files import FileDescription, encode_file, get_day, name_file
from endcap.samples.places import open_place
from tests.samples.examples import NOON, make_sample


def test_a_process_that_was_killed_has_no_end(tmp_path: Path) -> None:
    place = open_place(str(tmp_path))

    def write(instance: str, sequence: int, rows: int, *, ended: bool, **outcomes: int) -> None:
        description = FileDescription(instance, sequence, ended, outcomes)
        samples = [make_sample(number) for number in range(rows)]
        place.write(name_file("home", get_day(NOON), instance, sequence), encode_file(samples, description))

    write("pod-1", 0, 2, ended=False, written=2)
    write("pod-1", 1, 0, ended=True, written=2)
    write("pod-2", 0, 3, ended=False, written=3, **{"over-limit": 7})
    result = CliRunner().invoke(command, ["home", "--samples", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    first, second = json.loads(result.stdout)["writers"]
    assert (first["instance"], first["files"], first["ended"], first["last"]) == ("pod-1", 2, True, None)
    last = datetime.fromtimestamp((NOON + 2) / 1000, UTC).isoformat()
    assert (second["instance"], second["ended"], second["last"]) == ("pod-2", False, last)
    assert second["outcomes"] == {"written": 3, "over-limit": 7}
    table = CliRunner().invoke(command, ["home", "--samples", str(tmp_path)])
    assert table.exit_code == 0
    assert "over-limit 7" in table.output
