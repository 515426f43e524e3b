"""Runs: what happens in one, what the store keeps of it, and how that is read."""

from endcap.runs.events import (
    RunEvent,
    RunSilence,
    StepAbsence,
    StepEnd,
    StepFailure,
    StepProgress,
    StepStart,
    parse_event,
)
from endcap.runs.fault import Fault
from endcap.runs.names import RUN_FOLDER, find_current_run, make_run_name
from endcap.runs.read import find_run, find_step, list_runs, read_run, read_specs
from endcap.runs.record import StepRecord, begin_run, close_run, end_run, keep_specs
from endcap.runs.run import Run, StepRun
from endcap.runs.start import Start

__all__ = [
    "RUN_FOLDER",
    "Fault",
    "Run",
    "RunEvent",
    "RunSilence",
    "Start",
    "StepAbsence",
    "StepEnd",
    "StepFailure",
    "StepProgress",
    "StepRecord",
    "StepRun",
    "StepStart",
    "begin_run",
    "close_run",
    "end_run",
    "find_current_run",
    "find_run",
    "find_step",
    "keep_specs",
    "list_runs",
    "make_run_name",
    "parse_event",
    "read_run",
    "read_specs",
]
