"""Runs in words: one at length, many in a table."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime

from endcap.runs.read import Run, StepRun
from endcap.runs.record import FAILED, RUNNING
from endcap.tables import text_table

_MARKS = {RUNNING: "…", FAILED: "⨯"}  # noqa: RUF001 - the marks of a run's lines
_WIDEST = 60
"""Letters of the table's last column."""


def describe_run(run: Run) -> str:
    """A run at length."""
    of = f"{run.pipeline or 'a pipeline'} of {run.recommender or 'a recommender that is not known yet'}"
    lines = [f"Run {run.name}: {of}{f' (shop {run.shop})' if run.shop else ''}, {run.state}"]
    lines += [f"  {name:<9} {text}" for name, text in _list_facts(run) if text]
    for step in run.steps:
        lines += _format_step(step)
    if fault := run.fault:
        lines.append(f"  failed    {f'{run.failed_step}: ' if run.failed_step else ''}{fault}")
    return "\n".join(lines)


def format_runs(runs: Sequence[Run]) -> str:
    """A line a run under a header."""
    columns = ("run", "pipeline", "recommender", "state", "started", "took", "by", "gave")
    rows = [
        (
            run.name,
            run.pipeline or "-",
            run.recommender or "-",
            run.state,
            format_time(run.started)[:16],
            "-" if run.seconds is None else format_duration(run.seconds),
            ", ".join(filter(None, (run.by, run.how))) or "-",
            shorten(run.gave),
        )
        for run in runs
    ]
    return text_table(columns, rows, width=shutil.get_terminal_size().columns)


def format_duration(seconds: float) -> str:
    """`7.2 s`, `3 min 12 s` or `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_step_seconds(seconds: float, reused: bool = False) -> str:
    """A step's seconds; of a result that was there before: `found`."""
    return f"{'found':>8}" if reused else f"{seconds:6.1f} s"


def format_time(moment: datetime | None) -> str:
    """UTC, to the second; a dash where there is none."""
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def shorten(text: str) -> str:
    """The first line, cut where it is long."""
    first = text.partition("\n")[0]
    return first if len(first) <= _WIDEST else f"{first[: _WIDEST - 1]}…"


def _list_facts(run: Run) -> list[tuple[str, str]]:
    spec, code = run.document.get("spec", {}), run.document.get("code", {})
    started = [format_time(run.started), f"by {run.by}" if run.by else "", f"from {run.how}" if run.how else ""]
    version = [f"Endcap {code['version']}" if code.get("version") else ""]
    version += [f"{name} {code[name]}" for name in ("commit", "image") if code.get(name)]
    took = "" if run.seconds is None else f", after {format_duration(run.seconds)}"
    return [
        ("started", " ".join(filter(None, started))),
        ("why", run.why),
        ("ended", f"{format_time(run.ended)}{took}" if run.ended else ""),
        ("spec", " ".join(filter(None, [spec.get("fingerprint", ""), ", ".join(spec.get("files", []))]))),
        ("data", f"events before {run.logical_date}" if run.logical_date else ""),
        ("code", ", ".join(filter(None, version))),
        ("page", run.page),
    ]


def _format_step(step: StepRun) -> list[str]:
    said = str(step.fault or step.summary or step.result)
    took = format_step_seconds(step.seconds, step.reused)
    line = f"  {_MARKS.get(step.state, '✓')} {step.name:<9} {took}  {said}".rstrip()
    address = [f"      {step.result}"] if "://" in step.result else []
    return [line, *address]
