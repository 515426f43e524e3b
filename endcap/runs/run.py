"""A run and its steps, as their documents tell, and as text."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from endcap.processes import is_alive
from endcap.runs.cost import Cost, add_costs
from endcap.runs.fault import Fault
from endcap.runs.names import split_run_name
from endcap.runs.record import FAILED, KILLED_FAULT, RUNNING
from endcap.runs.text import format_duration, format_step_seconds, format_time, shorten
from endcap.tables import format_text_table

Json = dict[str, Any]
KILLED_STATE = "killed"
"""State of a run whose process is gone and could not say how it ended."""
_MARKS = {RUNNING: "…", FAILED: "⨯"}  # noqa: RUF001 - the marks of a run's lines


@dataclass(frozen=True)
class StepRun:
    """A step of a run, as its document describes it."""

    name: str
    document: Mapping[str, Any] = field(repr=False)

    @property
    def state(self) -> str:
        """`running`, `done` or `failed`."""
        return str(self.document["state"])

    @property
    def begun(self) -> datetime | None:
        """When the step began; None if that is not known."""
        return _parse_moment(self.document.get("begun"))

    @property
    def seconds(self) -> float:
        """The seconds that the step took, or has taken so far."""
        recorded = self.document.get("seconds")
        return float(recorded) if recorded is not None else _count_seconds_since(self.begun)

    @property
    def result(self) -> str:
        """The artifact's address, or a value such as a version."""
        return str(self.document.get("result", ""))

    @property
    def summary(self) -> str:
        """The result in one line."""
        return str(self.document.get("summary", ""))

    @property
    def reused(self) -> bool:
        """Whether the result existed before and was not made again."""
        return bool(self.document.get("reused"))

    @property
    def cost(self) -> Cost:
        """What the step used; all is 0 if that is not known."""
        return Cost.from_document(self.document)

    @property
    def fault(self) -> Fault | None:
        """Why the step failed; None if it did not."""
        return Fault.from_document(self.document) if self.state == FAILED else None

    @property
    def pod(self) -> tuple[str, str] | None:
        """The pod that the step ran in, and its namespace."""
        pod = self.document.get("pod")
        return (str(pod), str(self.document.get("namespace", ""))) if pod else None

    def to_json(self) -> Json:
        """Return the step as JSON values."""
        return {"step": self.name, **self.document}


@dataclass(frozen=True)
class Run:
    """A run of a pipeline. What the document of an earlier release lacks is empty."""

    name: str
    document: Mapping[str, Any] = field(repr=False)
    steps: Sequence[StepRun] = field(default=(), repr=False)
    """In the order in which they began. A list of runs has those of runs that have ended."""

    @property
    def pipeline(self) -> str:
        return str(self.document.get("pipeline", ""))

    @property
    def recommender(self) -> str:
        return str(self.document.get("recommender") or split_run_name(self.name)[0])

    @property
    def shop(self) -> str:
        return str(self.document.get("shop", ""))

    @property
    def state(self) -> str:
        """`running`, `succeeded`, `failed` or `canceled`; `killed` if the process of a run on this machine is gone.

        The state of a run on another machine is known only from its documents. It is `running` until they say more.
        """
        state = str(self.document.get("state", RUNNING))
        process = self.document.get("process")
        if state == RUNNING and process and process["host"] == socket.gethostname():
            return RUNNING if is_alive(process["pid"], process.get("start", "")) else KILLED_STATE
        return state

    @property
    def by(self) -> str:
        return self._started("by")

    @property
    def how(self) -> str:
        return self._started("how")

    @property
    def why(self) -> str:
        return self._started("why")

    @property
    def started(self) -> datetime | None:
        """When the run started, in UTC; None if that is not known."""
        at = _parse_moment(self._started("at")) or _parse_moment(split_run_name(self.name)[1])
        return at or min((step.begun for step in self.steps if step.begun), default=None)

    @property
    def ended(self) -> datetime | None:
        return _parse_moment(self.document.get("ended"))

    @property
    def seconds(self) -> float | None:
        """The seconds from start to end, or until now; None if that is not known."""
        if self.started is None or self.state == KILLED_STATE:
            return None
        return (self.ended - self.started).total_seconds() if self.ended else _count_seconds_since(self.started)

    @property
    def cost(self) -> Cost:
        """What the steps used that have ended."""
        return add_costs(step.cost for step in self.steps)

    @property
    def logical_date(self) -> str:
        return str(self.document.get("data", {}).get("logical_date", ""))

    @property
    def fault(self) -> Fault | None:
        """Why the run failed."""
        if self.state == KILLED_STATE:
            return KILLED_FAULT
        return Fault.from_document(self.document)

    @property
    def failed_step(self) -> str:
        return str(self.document.get("step") or "")

    @property
    def page(self) -> str:
        """The address of the run's page in KFP, if it is known."""
        return str(self.document.get("page", ""))

    @property
    def gate(self) -> str:
        """The gate's decision: `passed`, `failed` or `undecided`; empty if no model was judged."""
        return next((str(step.document["gate"]) for step in self.steps if "gate" in step.document), "")

    @property
    def gave(self) -> str:
        """What came of the run, in one line: its fault, or the summary of its last step."""
        if fault := self.fault:
            return f"{self.failed_step}: {fault}" if self.failed_step else str(fault)
        done = [step for step in self.steps if step.state == "done"]
        return f"{done[-1].name}: {done[-1].summary or done[-1].result}" if done else ""

    def step(self, name: str) -> StepRun | None:
        return next((step for step in self.steps if step.name == name), None)

    def to_json(self) -> Json:
        """Return the run's document, with the present state and all steps in their order."""
        fault = self.fault
        steps = [step.to_json() for step in self.steps]
        error = {"error": fault.to_json()} if fault else {}
        return {
            **self.document,
            "run": self.name,
            "recommender": self.recommender,
            "state": self.state,
            "seconds": self.seconds,
            "gate": self.gate,
            "cost": self.cost.to_json(),
            **error,
            "steps": steps,
        }

    def __str__(self) -> str:
        return describe_run(self)

    def _started(self, key: str) -> str:
        return str(self.document.get("started", {}).get(key, ""))


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
    """Format runs as a table, a line for each."""
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
    return format_text_table(columns, rows, width=shutil.get_terminal_size().columns)


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
        ("cost", str(run.cost)),
        ("spec", " ".join(filter(None, [spec.get("fingerprint", ""), ", ".join(spec.get("files", []))]))),
        ("data", _format_data(run)),
        ("code", ", ".join(filter(None, version))),
        ("page", run.page),
    ]


def _format_data(run: Run) -> str:
    """Format which data a run was started for: the logical date, their version, and what came."""
    data = run.document.get("data", {})
    counts = [f"{data[key]} {key}" for key in ("added", "changed", "removed") if data.get(key)]
    days, names = data.get("days", ()), data.get("names", ())
    parts = [
        f"events before {run.logical_date}" if run.logical_date else "",
        f"version {data['version']}" if data.get("version") else "",
        f"since the run before: {', '.join(counts)}" if counts else "",
        f"days {_shorten_list(days)}" if days else (_shorten_list(names) if names else ""),
        f"in {_shorten_list(data['paths'])}" if data.get("paths") else "",
    ]
    return "; ".join(filter(None, parts))


def _shorten_list(values: Sequence[str], most: int = 5) -> str:
    return ", ".join(values[:most]) + (" …" if len(values) > most else "")


def _format_step(step: StepRun) -> list[str]:
    text = str(step.fault or step.summary or step.result)
    took = format_step_seconds(step.seconds, step.reused)
    line = f"  {_MARKS.get(step.state, '✓')} {step.name:<9} {took}  {text}".rstrip()
    address = [f"      {step.result}"] if "://" in step.result else []
    return [line, *address]


def _parse_moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _count_seconds_since(begun: datetime | None) -> float:
    return 0.0 if begun is None else (datetime.now(UTC) - begun).total_seconds()
