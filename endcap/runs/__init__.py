"""Runs: what happens in one, what the store keeps of it, and how that is read."""

from endcap.runs.events import Absent, Done, Event, Failed, Progress, Silent, Started, event_from_json
from endcap.runs.fault import Fault
from endcap.runs.names import RUN_FOLDER, current_run, run_name
from endcap.runs.read import Run, StepRun, find_run, find_step, list_runs, read_run, read_specs
from endcap.runs.record import StepRecord, begin_run, close_run, end_run, keep_specs
from endcap.runs.start import Start

__all__ = [
    "RUN_FOLDER",
    "Absent",
    "Done",
    "Event",
    "Failed",
    "Fault",
    "Progress",
    "Run",
    "Silent",
    "Start",
    "Started",
    "StepRecord",
    "StepRun",
    "begin_run",
    "close_run",
    "current_run",
    "end_run",
    "event_from_json",
    "find_run",
    "find_step",
    "keep_specs",
    "list_runs",
    "read_run",
    "read_specs",
    "run_name",
]
