"""A spec's section `spark:` as Spark's own configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from endcap.spec.pod import SPOT
from endcap.spec.spark import SparkSpec

_UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_UNITS |= {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}
MEBIBYTE = 1024**2
DRIVER_OPTIONS = "spark.driver.defaultJavaOptions"
SHARED: dict[str, Any] = {
    "spark.ui.showConsoleProgress": False,
    # A driver that is out of memory ends, and does not go on without what it could not do. Spark puts what a user gives
    # in `spark.driver.extraJavaOptions` behind these options, not in their place.
    DRIVER_OPTIONS: "-XX:+ExitOnOutOfMemoryError",
    "spark.checkpoint.compress": True,
    # Executors free a table that was dropped when the driver collects garbage, for which it alone has little cause.
    "spark.cleaner.periodicGC.interval": "2min",
}
"""Configuration of every Spark that is started for a step."""


def build_configuration(spec: SparkSpec, folder: Path) -> dict[str, str]:
    """Build the configuration of a Spark that is started for a step.

    Parameters
    ----------
    spec
        The section.
    folder
        Where Spark may put files on this machine.
    """
    is_local = spec.master.startswith("local")
    values: dict[str, Any] = {
        **SHARED,
        "spark.app.name": "endcap",
        "spark.master": spec.master,
        "spark.driver.memory": to_spark_size(spec.driver_memory),
        "spark.executor.memory": to_spark_size(spec.memory),
        "spark.executor.cores": spec.cores,
        "spark.executor.instances": spec.executors,
        "spark.local.dir": folder,
        "spark.ui.enabled": False,
        DRIVER_OPTIONS: f"{SHARED[DRIVER_OPTIONS]} -Djava.net.preferIPv4Stack=true",
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": 0,
        **spec.conf,
    }
    if is_local:
        values |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    if spec.master.startswith("k8s://"):
        values |= {"spark.kubernetes.container.image": spec.image}
        values |= {
            f"spark.kubernetes.executor.node.selector.{name}": value for name, value in spec.nodeSelector.items()
        }
        if tolerations := [*spec.tolerations, *(SPOT if spec.spot else ())]:
            template = folder / "executor.yaml"
            pod = {"tolerations": [toleration.model_dump(exclude_none=True) for toleration in tolerations]}
            template.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "spec": pod}))
            values["spark.kubernetes.executor.podTemplateFile"] = template
    return {name: to_text(value) for name, value in values.items()}


def to_text(value: Any) -> str:
    """Write a value of Spark's configuration as Spark reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def to_spark_size(quantity: str) -> str:
    """Write Kubernetes' quantity of memory as Java does, in whole MiB."""
    number = quantity.rstrip("kKMGTPEi")
    size = float(number) * _UNITS[quantity[len(number) :]]
    return f"{max(1, int(size / MEBIBYTE))}m"
