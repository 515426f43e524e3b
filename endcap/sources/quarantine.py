"""Bad rows: stored with place and reason, and counted. Too many of them stop the run."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from endcap.errors import DataError
from endcap.sources.formats.rows import RejectedText
from endcap.sources.values.time_advice import advise
from endcap.spec.event_log import TimeRule

Json = dict[str, Any]

# After so many rows, reading stops if most of the table is bad.
EARLY = 1_000_000
LONGEST_TEXT = 10_000
_DIGEST_BYTES = 16
_LISTED = 5
EXAMPLES = 100
"""The most values that are kept for a reason. Together they show what is wrong."""
LONGEST_EXAMPLE = 100


class Quarantine:
    """Write ``quarantine.jsonl``: an object with table, source, line, reason and values or text for each bad row.

    Parameters
    ----------
    file
        The file to write.
    limit
        The largest share of a table's rows that may be bad.
    rule
        The shop's rule for times, on which advice depends.
    setting
        The key of `limit`, for errors.
    is_kept
        Whether the file remains after an error. Otherwise the error itself names the first bad rows.
    """

    def __init__(
        self, file: Path, limit: float, rule: TimeRule, *, setting: str = "events.max_bad_share", is_kept: bool = True
    ) -> None:
        self.file, self._limit, self._rule = file, limit, rule
        self._setting, self._is_kept = setting, is_kept
        self._first: dict[str, list[tuple[str, int, str]]] = {}
        self._handle = file.open("w", encoding="utf-8")
        self.rows: Counter[str] = Counter()
        """Good and bad rows by table."""
        self.bad: dict[str, Counter[str]] = {}
        self.examples: dict[str, dict[str, Json]] = {}
        """One bad row for each table and reason: its `source`, its `line` and the `value` that the reason is about."""
        self._values: dict[tuple[str, str], list[str | None]] = {}
        self.left_out: dict[str, Counter[str]] = {}
        """Rows that a rule of the shop leaves out, by table and rule. They are neither good nor bad."""
        self._digest = 0

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.close()

    @property
    def digest(self) -> str:
        """A fingerprint of the bad rows: of their values and reasons, not of their places or order."""
        return f"{self._digest:0{2 * _DIGEST_BYTES}x}"

    def count_good(self, table: str, rows: int) -> None:
        """Count good rows of a table."""
        self.rows[table] += rows

    def count_rows(self, table: str) -> int:
        """Return the number of a table's rows: good, bad and left out."""
        return self.rows[table] + self.left_out.get(table, Counter()).total()

    def leave_out(self, table: str, counts: Counter[str]) -> None:
        """Count rows of a table that rules leave out."""
        self.left_out.setdefault(table, Counter()).update(counts)

    def reject(self, table: str, source: str, rejects: Sequence[RejectedText]) -> None:
        """Store text that is no row at all."""
        for rejected in rejects:
            self._write(table, source, rejected.line, rejected.reason, rejected.rows, text=rejected.text[:LONGEST_TEXT])

    def add_bad_rows(
        self, table: str, source: str, lines: Sequence[int], reasons: Sequence[str], values: Sequence[Any]
    ) -> None:
        """Store bad rows: their lines, reasons and values by column name."""
        for line, reason, row in zip(lines, reasons, values, strict=True):
            self._write(table, source, line, reason, 1, values=row)

    def count_needed_examples(self, table: str, reason: str) -> int:
        """Return how many more example values of this reason are needed."""
        return EXAMPLES - len(self._values.get((table, reason), ()))

    def add_examples(
        self, table: str, source: str, reason: str, lines: Sequence[int], values: Sequence[str | None]
    ) -> None:
        """Add values that a reason is about, from stored rows."""
        if (table, reason) not in self._values and values:
            self.examples[table][reason] = {"source": source, "line": lines[0], "value": _shorten(values[0] or "")}
        self._values.setdefault((table, reason), []).extend(values)

    def export(self, table: str) -> Json:
        """Return all that is known of a table's rows, as JSON values that `merge` takes."""
        return {
            "rows": self.rows[table],
            "bad": dict(self.bad.get(table, {})),
            "left_out": dict(self.left_out.get(table, {})),
            "examples": self.examples.get(table, {}),
            "values": {reason: values for (name, reason), values in self._values.items() if name == table},
            "first": self._first.get(table, []),
            "digest": self.digest,
        }

    def merge(self, table: str, exported: Json, file: Path, names: Mapping[str, str]) -> None:
        """Add a table's rows from what another quarantine exported.

        Parameters
        ----------
        table
            The table.
        exported
            The other's `export`.
        file
            The other's file. Nothing is read of it if there are no bad rows.
        names
            Present names of source files, by those in the other.
        """
        self.rows[table] += exported["rows"]
        if exported["left_out"]:
            self.leave_out(table, Counter(exported["left_out"]))
        if not exported["bad"]:
            return
        self.bad.setdefault(table, Counter()).update(exported["bad"])
        self._digest = (self._digest + int(exported["digest"], 16)) % 2 ** (8 * _DIGEST_BYTES)
        examples = self.examples.setdefault(table, {})
        for reason, example in exported["examples"].items():
            examples.setdefault(reason, {**example, "source": names[example["source"]]})
        for reason, values in exported["values"].items():
            known = self._values.setdefault((table, reason), [])
            known += values[: EXAMPLES - len(known)]
        first = self._first.setdefault(table, [])
        first += [(names[source], line, reason) for source, line, reason in exported["first"]][: _LISTED - len(first)]
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                self._write_line({**row, "source": names[row["source"]]})

    def check(self, table: str, *, end: bool) -> None:
        """Raise DataError if too many rows of the table are bad or, at the `end`, if none is good."""
        bad_rows, rows = self.bad.get(table, Counter()).total(), self.rows[table]
        share = bad_rows / rows if rows else 0.0
        hopeless = rows >= EARLY and share > max(0.5, self._limit)
        if hopeless or (end and (share > self._limit or (bad_rows == rows and rows))):
            self._stop(table, rows, share)

    def _stop(self, table: str, rows: int, share: float) -> NoReturn:
        counts, examples = self.bad[table], self.examples[table]
        lines = [
            f"  - {count:,}: {reason}; {_example_text(examples[reason])}" for reason, count in counts.most_common()
        ]
        hint = next((hint for cause in counts if (hint := self._advice(cause, counts[cause], rows, table))), None)
        allowed = f"allowed: {self._limit:.1%}, {self._setting}"
        head = f"{counts.total():,} of {rows:,} rows of {table} are bad ({share:.1%}; {allowed}):"
        excluded = self.left_out.get(table, Counter())
        if excluded:
            lines.append(
                f"  ({excluded.total():,} more rows are left out, and count neither way: {', '.join(excluded)})"
            )
        advice = [f"Probably {hint}."] if hint else []
        first = [f"{source}, line {line}: {reason}" for source, line, reason in self._first[table]]
        places = [f"Each with its line and reason: {self.file}"] if self._is_kept else first
        raise DataError(
            "\n".join([head, *lines, *advice, *places]),
            code="events.bad-rows",
            table=table,
            bad=counts.total(),
            rows=rows,
            limit=self._limit,
            setting=self._setting,
            reasons=dict(counts.most_common()),
            examples=examples,
            left_out=dict(excluded),
            advice=hint,
            path=str(self.file) if self._is_kept else None,
            first=first,
        )

    def _advice(self, reason: str, count: int, rows: int, table: str) -> str | None:
        if table != "events" or count * 2 <= rows:
            return None
        return advise(reason, self._values.get((table, reason), ()), self._rule)

    def _write(self, table: str, source: str, line: int, reason: str, rows: int, **raw: Any) -> None:
        self.rows[table] += rows
        self.bad.setdefault(table, Counter())[reason] += rows
        content = json.dumps([table, reason, raw], sort_keys=True).encode()
        hashed = int.from_bytes(hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest())
        self._digest = (self._digest + hashed) % 2 ** (8 * _DIGEST_BYTES)  # a sum, as in `endcap.sources.digest`
        examples = self.examples.setdefault(table, {})
        if reason not in examples:
            value = (
                raw["text"]
                if "text" in raw
                else ", ".join(str(part) for part in raw["values"].values() if part is not None)
            )
            examples[reason] = {"source": source, "line": line, "value": _shorten(value)}
        first = self._first.setdefault(table, [])
        if len(first) < _LISTED:
            first.append((source, line, reason))
        self._write_line({"table": table, "source": source, "line": line, "reason": reason, **raw})

    def _write_line(self, row: Json) -> None:
        self._handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def _shorten(value: str) -> str:
    return value if len(value) <= LONGEST_EXAMPLE else value[:LONGEST_EXAMPLE] + "…"


def _example_text(example: Json) -> str:
    return f"such as {example['value']!r} in line {example['line']} of {example['source']}"
