"""What a step's pod gets in a cluster, from the spec: resources, nodes, Secrets, retries, deadlines."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from kfp import kubernetes
from kfp.dsl import PipelineTask

from endcap import devices, pseudonyms
from endcap.cluster.quantities import parse_quantity
from endcap.messages.addresses import VARIABLE as NOTIFY
from endcap.registry import REGISTRY
from endcap.secrets import MLFLOW, MOUNT
from endcap.spec.pipeline import Pipeline, StepRetries, StepSpec
from endcap.spec.pod import Pod
from endcap.steps import STEPS
from endcap.store.s3_settings import MOUNTED, SECRET_KEYS
from endcap_components.lifecycle import DEADLINE

_KEYS = (*SECRET_KEYS, REGISTRY, *MLFLOW, NOTIFY)
"""Of the Secret that every step gets: what the store and the registry need, and where messages go."""

_WITH_PSEUDONYMS = ("ingest", "evaluate", "recommend")
"""Steps that read files with ids of customers, and need the key of the shop's pseudonyms if it has some."""


def step_settings(name: str, pipeline: Pipeline) -> StepSpec:
    """Merge a step's own settings over the pipeline's defaults, over the fallbacks."""
    settings = pipeline.steps.get(name, StepSpec())
    explicit = {key: getattr(settings, key) for key in settings.model_fields_set}
    defaults = {key: getattr(pipeline.defaults, key) for key in pipeline.defaults.model_fields_set}
    fallbacks = {} if name not in STEPS or STEPS[name].retried else {"retries": StepRetries(count=0)}
    return StepSpec.model_construct(**{**dict(StepSpec()), **fallbacks, **defaults, **explicit})


def configure(task: PipelineTask, step: StepSpec, pipeline: Pipeline, name: str = "") -> PipelineTask:
    """Apply a step's settings to its task. name: the step's."""
    _resources(task, step)
    _placement(task, step)
    _secrets(task, step, pipeline)
    if name in _WITH_PSEUDONYMS:
        kubernetes.use_secret_as_env(task, pseudonyms.SECRET, {pseudonyms.KEY: pseudonyms.KEY}, optional=True)
    if step.sharedMemory is not None:
        size = str(_whole(step.sharedMemory))
        kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", "Memory", size)  # noqa: S108 - of the pod's own
    if step.retries.count:
        task.set_retry(
            step.retries.count,
            backoff_duration=_seconds(step.retries.backoff),
            backoff_factor=step.retries.factor,
            backoff_max_duration=_seconds(step.retries.max_backoff),
        )
    _deadlines(task, step.deadline, pipeline.deadline)
    return task


def _resources(task: PipelineTask, step: Pod) -> None:
    memory_limit = step.memory_limit or step.memory
    if step.cpu is not None:
        task.set_cpu_request(_cpu(step.cpu))
    if step.cpu_limit is not None:
        task.set_cpu_limit(_cpu(step.cpu_limit))
    if step.memory is not None:
        task.set_memory_request(_memory(step.memory))
    if memory_limit is not None:
        task.set_memory_limit(_memory(memory_limit))
    if step.gpu is not None and step.gpu.count:
        task.set_accelerator_type(step.gpu.resource).set_accelerator_limit(step.gpu.count)
        for variable, value in devices.make_gpu_variables(step.gpu).items():
            task.set_env_variable(variable, value)


def _placement(task: PipelineTask, step: Pod) -> None:
    for key, value in step.nodeSelector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in step.borne():
        kubernetes.add_toleration(
            task, toleration.key, toleration.operator, toleration.value, toleration.effect, toleration.tolerationSeconds
        )


def _secrets(task: PipelineTask, step: StepSpec, pipeline: Pipeline) -> None:
    kubernetes.use_secret_as_env(task, pipeline.secret, {key: key for key in _KEYS}, optional=True)
    kubernetes.use_secret_as_volume(task, pipeline.secret, MOUNTED, optional=True)
    task.set_env_variable(MOUNT, MOUNTED)
    for secret in step.secrets:
        kubernetes.use_secret_as_env(task, secret.secret, {secret.key: secret.env})


def _deadlines(task: PipelineTask, step: timedelta | None, run: timedelta | None) -> None:
    """Let Kubernetes end the pod at the step's deadline, and never later than the run's.

    The step itself keeps the rest of the run's deadline (see `endcap_components.lifecycle`).
    """
    if run is not None:
        task.set_env_variable(DEADLINE, str(int(run.total_seconds())))
    limits = [limit for limit in (step, run) if limit is not None]
    if limits:
        kubernetes.set_timeout(task, max(1, int(min(limits).total_seconds())))


def _seconds(duration: timedelta) -> str:
    return f"{int(duration.total_seconds())}s"


def _cpu(quantity: str) -> str:
    """KFP takes cores, or thousandths by m."""
    return quantity if re.fullmatch(r"[0-9.]+m?", quantity) else f"{parse_quantity(quantity):g}"


def _memory(quantity: str) -> str:
    """KFP takes whole numbers only, and no unit k."""
    return quantity if re.fullmatch(r"[0-9]+([MGT]i?|Ki)?", quantity) else str(_whole(quantity))


def _whole(quantity: str) -> int:
    return math.ceil(parse_quantity(quantity))
