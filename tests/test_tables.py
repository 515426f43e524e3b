"""Tables of text fit the terminal, and lose no column."""

from __future__ import annotations

from random import Random

import pytest

from endcap.tables import format_text_table, shorten_text

LETTERS = "abc de:/0123456789."


def cell(random: Random) -> object:
    text = "".join(random.choices(LETTERS, k=random.randrange(60)))
    return random.choice([random.randrange(10**9), random.random(), text])


@pytest.mark.parametrize("seed", range(30))
def test_no_line_is_wider_than_the_terminal_and_each_column_is_there(seed: int) -> None:
    random = Random(seed)
    wide = random.randrange(1, 10)
    rows = [[cell(random) for _ in range(wide)] for _ in range(random.randrange(1, 6))]
    names = [f"column-{number}" for number in range(len(rows[0]))]
    lines = format_text_table(names, rows, width=80).splitlines()
    assert max(map(len, lines)) <= 80
    shown = " ".join(line for line in lines if "column-" in line).split()
    assert set(shown) == set(names)
    heads = [line for line in lines if "column-" in line]
    assert len(lines) == len(heads) * (1 + len(rows))


def test_figures_are_never_cut_and_words_are() -> None:
    interval, time, run = "0.4565 to 0.4967", "2026-11-29 14:44:58", "corner-20261129T144458-24e7"
    rows = [(run, "training", interval, time, 1234567, "s3://shop/store/packages/corner/d5edf67fb0395ea6521c")]
    table = format_text_table(["run", "pipeline", "of mrr", "started", "bytes", "package"], rows, width=80)
    assert all(text in table for text in (run, interval, time, "1,234,567", "6521c"))
    assert "…" in table
    assert max(map(len, table.splitlines())) <= 80


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_the_terminals_width_counts(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    words = "a word and another, " * 20
    table = format_text_table(["name", "what"], [("a", words), ("b", "short")])
    assert max(map(len, table.splitlines())) == int(columns) - 2  # room to move it in


def test_of_words_the_end_is_cut_and_of_an_address_the_middle() -> None:
    assert shorten_text("the gate passed", 8) == "the gat…"
    assert shorten_text("s3://shop/store/packages/6521c", 10) == "s3:…/6521c"
    assert shorten_text("short", 5) == "short"
