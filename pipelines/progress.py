"""What a run's tasks, as KFP lists them, say of the pipeline's steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kfp_server_api import V2beta1PipelineTaskDetail, V2beta1Run

from endcap.steps import title
from endcap_components.runs import KILLED

Json = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """A step: KFP's state, the seconds that it took, what KFP says of an error, and its pods."""

    state: str
    seconds: float
    error: str
    pods: list[str]


def seen(run: V2beta1Run, steps: Sequence[str]) -> dict[str, Seen]:
    """The steps that have begun. A step's task is known by its name; a driver's task, named for it, comes first."""
    details = list((run.run_details and run.run_details.task_details) or [])
    found = {}
    for step in steps:
        own = [one for one in details if one.display_name in (step, title(step))]
        drivers = [one for one in details if one.display_name == f"{step}-driver"]
        if own:
            found[step] = _seen(own[-1].state or "RUNNING", own[-1], details)
        elif drivers:
            failed = drivers[-1].state == "FAILED"
            found[step] = _seen("FAILED" if failed else "RUNNING", drivers[-1], details)
    return found


def _seen(state: str, task: V2beta1PipelineTaskDetail, details: list[V2beta1PipelineTaskDetail]) -> Seen:
    family = _family(task, details)
    errors = [one.error.message for one in family if one.error and one.error.message]
    pods = [child.pod_name for one in family for child in one.child_tasks or [] if child.pod_name]
    pods += [one.pod_name for one in family if one.pod_name]
    begun, ended = task.start_time or task.create_time, task.end_time
    seconds = (ended - begun).total_seconds() if begun and ended and ended > begun else 0.0
    return Seen(state, seconds, errors[-1] if errors else "", list(dict.fromkeys(pods)))


def _family(
    task: V2beta1PipelineTaskDetail, details: list[V2beta1PipelineTaskDetail]
) -> list[V2beta1PipelineTaskDetail]:
    """The task and all below it: KFP names children by their task or by their pod, or the child names its parent."""
    family = [task]
    for member in family:
        children = {one for child in member.child_tasks or [] for one in (child.task_id, child.pod_name) if one}
        family += [
            one
            for one in details
            if one not in family
            and (one.task_id in children or (member.task_id and one.parent_task_id == member.task_id))
        ]
    return family


def _done(step: str, now: Seen, said: Json | None) -> Json:
    said = said or {}
    told = {"result": said.get("result", ""), "summary": said.get("summary", "")}
    return {"step": step, "state": "done", "took": now.seconds, **told}


def _failed(step: str, now: Seen, said: Json | None) -> Json:
    cause = now.error or KILLED
    if said and said["state"] == "failed":
        cause = said["cause"]
    pods = f" (pod {now.pods[-1]})" if now.pods else ""
    return {"step": step, "state": "failed", "cause": f"{cause}{pods}", "took": now.seconds}


finished: dict[str, Callable[[str, Seen, Json | None], Json]] = {
    "SUCCEEDED": _done,
    "SKIPPED": _done,
    "FAILED": _failed,
}
"""The event of a step that has ended, by KFP's state."""
