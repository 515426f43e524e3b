"""Run a pipeline on this machine, each step in a process of its own, through KFP's local runner."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from endcap.errors import EndcapError
from endcap.online import ONLINE
from endcap.processes import share_variables
from endcap.registry import REGISTRY
from endcap.runs import (
    RUN_FOLDER,
    Fault,
    RunEvent,
    Start,
    StepAbsence,
    begin_run,
    close_run,
    end_run,
    keep_specs,
    parse_event,
)
from endcap.spec.load import Loaded, dump_specs
from endcap.spec.step_order import order_steps
from endcap.steps import STEPS
from endcap.store import open_store
from endcap_components.lifecycle import MARK
from endcap_components.messages import tell_failed_run
from endcap_pipelines.reuse import reuse_artifacts


def run(
    loaded: Loaded,
    pipeline: str,
    arguments: dict[str, Any],
    folder: Path,
    listen: Callable[[RunEvent], None],
    *,
    start: Start | None = None,
) -> None:
    """Run a spec's pipeline on this machine.

    Parameters
    ----------
    loaded
        The spec.
    pipeline
        The pipeline's name.
    arguments
        The pipeline's parameters.
    folder
        Receives a log for each step, KFP's own output (`kfp.log`) and KFP's files. Its name is the run's id.
    listen
        Receives each step's events as they come, and `StepAbsence` for a container, which cannot run here.
    start
        Who starts the run, and why, for the run's record; None: this process's user.

    Raises
    ------
    EndcapError
        The run stopped early. The failed step's event has the cause, if the step could still report it.
    """
    from kfp import local

    definition = entry_points(group="endcap.pipelines")[pipeline].load()(loaded, here=True)
    settings = loaded.recommender.pipeline
    steps = order_steps(pipeline, settings)
    for name in steps:
        if name not in STEPS and settings.steps[name].function is None and settings.steps[name].sql is None:
            listen(StepAbsence(name, "a container runs in a cluster only"))
    arguments, by_variables = _without_secrets(arguments)
    folder.mkdir(parents=True, exist_ok=True)
    started = start or Start.of(loaded, pipeline, logical_date=arguments.get("logical_date", ""))
    with (
        _recorded(arguments["store"], folder.name, steps, started, dump_specs(loaded)),
        warnings.catch_warnings(),
        (folder / "kfp.log").open("w") as log,
        share_variables({RUN_FOLDER: str(folder), **by_variables}),
        _quiet_logging(),
        reuse_artifacts(folder),
    ):
        warnings.simplefilter("ignore")
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "kfp"))
        try:
            # KFP prints what its steps print, in this process: a step's marked lines are picked out there.
            with contextlib.redirect_stdout(_Splitter(listen, log)):
                definition(**arguments)
        except RuntimeError as error:
            raise EndcapError(f"the pipeline stopped: {error}", code="run.stopped", run=folder.name) from None


def _without_secrets(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Split the arguments into those without credentials, and environment variables for addresses that may hold some.

    The runner starts each step with its arguments on the command line, which every user of the machine may read. The
    registry's variable is always set: an empty one means the store's own registry, even if this process has another.
    """
    variables = {REGISTRY: arguments["registry"]} if "registry" in arguments else {}
    if arguments.get("online"):
        variables[ONLINE] = arguments["online"]
    hidden = {name: "" for name in ("registry", "online") if name in arguments}
    return {**arguments, **hidden}, variables


@contextlib.contextmanager
def _recorded(store_url: str, run: str, steps: Sequence[str], start: Start, specs: dict[str, Any]) -> Iterator[None]:
    """Write the run's document before the first step, and complete it if the report step could not."""
    store = open_store(store_url)
    keep_specs(store, specs)
    begin_run(store, run, start, here=True)
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(EndcapError, OSError):
            end_run(store, run, "canceled", steps)
        raise
    except BaseException as error:
        with contextlib.suppress(EndcapError, OSError):
            close_run(store, run, "failed", steps, Fault.of(error))
            tell_failed_run(store_url, store.read_document(f"runs/{run}") or {})
        raise
    close_run(store, run, "succeeded", steps)


class _Splitter(io.TextIOBase):
    """Send marked lines to a listener, and all other lines to a file."""

    def __init__(self, listen: Callable[[RunEvent], None], log: io.TextIOBase) -> None:
        self._listen = listen
        self._log = log
        self._stdout = sys.stdout
        self._line = ""

    def write(self, text: str) -> int:
        self._line += text
        *lines, self._line = self._line.split("\n")
        for line in lines:
            if line.lstrip().startswith(MARK):
                with contextlib.redirect_stdout(self._stdout):
                    self._listen(parse_event(json.loads(line.lstrip().removeprefix(MARK))))
            else:
                self._log.write(line + "\n")
        return len(text)

    def flush(self) -> None:
        self._log.flush()


@contextlib.contextmanager
def _quiet_logging() -> Iterator[None]:
    """Restore the root logger's level, which KFP resets around each task."""
    level = logging.getLogger().level
    try:
        yield
    finally:
        logging.getLogger().setLevel(level)
