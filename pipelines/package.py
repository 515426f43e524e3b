"""Compile a pipeline to a package for KFP."""

from __future__ import annotations

import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path

from kfp import compiler, dsl

from endcap.spec.load import Loaded
from endcap.spec.pipeline import Pipeline

MARGIN = timedelta(minutes=5)
"""How long the workflow waits after the steps' deadline before it ends a run, so that the report can finish."""


def package(pipeline: str, loaded: Loaded, *, run_deadline: bool = False) -> str:
    """Compile a pipeline to the YAML of a package. The spec's documents are the defaults of its parameters.

    Parameters
    ----------
    pipeline
        The pipeline's name.
    loaded
        The spec.
    run_deadline
        Give `pipeline.deadline` to the workflow too. KFP before 2.17 silently drops all pod settings of such a package.

    Returns
    -------
    str
        The YAML text.
    """
    build = entry_points(group="endcap.pipelines")[pipeline].load()
    # KFP reads the source of every caller, up to the program's start, at each of a task's settings. In a thread of its
    # own the definition has few callers.
    with ThreadPoolExecutor(1) as thread:
        definition = thread.submit(build, loaded, run_deadline=run_deadline).result()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder) / f"{pipeline}.yaml"
        compiler.Compiler().compile(definition, str(file))
        # KFP's comment repeats the parameters' defaults, in an order that changes.
        body = [line for line in file.read_text().splitlines(keepends=True) if not line.startswith("#")]
    return f"# Compiled by `endcap compile`; change the spec or the definition, not this file.\n{''.join(body)}"


def configure_workflow(settings: Pipeline, run_deadline: bool) -> dsl.PipelineConfig:
    """Make the workflow's settings for a whole run. Its deadline also ends a pod that no node takes."""
    if settings.deadline is None or not run_deadline:
        return dsl.PipelineConfig()
    return dsl.PipelineConfig(active_deadline_seconds=int((settings.deadline + MARGIN).total_seconds()))
