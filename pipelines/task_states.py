"""The state of each pipeline step, read from a run's tasks as KFP lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kfp_server_api import V2beta1PipelineTaskDetail, V2beta1Run

from endcap.runs import Fault, StepEnd, StepFailure, StepRun
from endcap.runs.record import KILLED_FAULT
from endcap.steps import get_step_title


@dataclass(frozen=True)
class TaskState:
    """A step's state in KFP.

    Attributes
    ----------
    state
        KFP's name of it.
    seconds
        How long the step took.
    error
        KFP's message of an error.
    pods
        Names of its pods.
    """

    state: str
    seconds: float
    error: str
    pods: list[str]


def find_task_states(run: V2beta1Run, steps: Sequence[str]) -> dict[str, TaskState]:
    """Find the states of the steps that have begun.

    A step's task is known by its name. The task of its driver comes first, and is named after it.
    """
    details = list((run.run_details and run.run_details.task_details) or [])
    states = {}
    for step in steps:
        tasks = [task for task in details if task.display_name in (step, get_step_title(step))]
        drivers = [task for task in details if task.display_name == f"{step}-driver"]
        if tasks:
            states[step] = _make_state(tasks[-1].state or "RUNNING", tasks[-1], details)
        elif drivers:
            failed = drivers[-1].state == "FAILED"
            states[step] = _make_state("FAILED" if failed else "RUNNING", drivers[-1], details)
    return states


def _make_state(state: str, task: V2beta1PipelineTaskDetail, details: list[V2beta1PipelineTaskDetail]) -> TaskState:
    family = _family(task, details)
    errors = [member.error.message for member in family if member.error and member.error.message]
    pods = [child.pod_name for member in family for child in member.child_tasks or [] if child.pod_name]
    pods += [member.pod_name for member in family if member.pod_name]
    begun, ended = task.start_time or task.create_time, task.end_time
    seconds = (ended - begun).total_seconds() if begun and ended and ended > begun else 0.0
    return TaskState(state, seconds, errors[-1] if errors else "", list(dict.fromkeys(pods)))


def _family(
    task: V2beta1PipelineTaskDetail, details: list[V2beta1PipelineTaskDetail]
) -> list[V2beta1PipelineTaskDetail]:
    """Find the task and all below it. KFP names children by task or by pod, or the child names its parent."""
    family = [task]
    for member in family:
        children = {
            detail for child in member.child_tasks or [] for detail in (child.task_id, child.pod_name) if detail
        }
        family += [
            detail
            for detail in details
            if detail not in family
            and (detail.task_id in children or (member.task_id and detail.parent_task_id == member.task_id))
        ]
    return family


def make_end_event(step: str, state: TaskState, record: StepRun | None) -> StepEnd | StepFailure | None:
    """Make the event of a step that has ended; None for another step. record: the step's own, if it can be read."""
    if state.state in ("SUCCEEDED", "SKIPPED"):
        if record is None:
            return StepEnd(step, seconds=state.seconds)
        return StepEnd(step, record.result, record.summary, state.seconds, record.reused)
    if state.state != "FAILED":
        return None
    fault = record.fault if record else None
    if fault is None:
        fault = Fault(state.error, code="kfp.step-failed", fields={"step": step}) if state.error else KILLED_FAULT
    if state.pods:
        pod = state.pods[-1]
        fault = replace(fault, message=f"{fault.message} (pod {pod})", fields={**fault.fields, "pod": pod})
    return StepFailure(step, fault, state.seconds)
