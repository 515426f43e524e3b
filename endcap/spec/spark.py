"""Where Spark runs, for steps whose engine is Spark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from endcap.redaction import find_secret
from endcap.spec.base import Allowed, Mistake, Strict, check, select_known
from endcap.spec.pod import Quantity, Toleration

_SECRET_NAME = re.compile(r"token|password|passwd|secret|credential|access\.?key|account\.?key", re.IGNORECASE)
OWN = frozenset(
    {
        "spark.master",
        "spark.app.name",
        "spark.driver.memory",
        "spark.executor.memory",
        "spark.executor.cores",
        "spark.executor.instances",
        "spark.kubernetes.container.image",
        "spark.local.dir",
    }
)
"""Keys of Spark that the section itself sets."""


class SparkSpec(Strict):
    """Where Spark runs: behind a Spark Connect address, or started for the step. It holds no credentials: the variable
    `SPARK_CONNECT_AUTHENTICATE_TOKEN` has the token of a Connect server."""

    connect: (
        Annotated[str, Field(pattern=r"^sc://[^\s/;@]+(/(;[^\s;=]+=[^\s;]*)*)?$"), Allowed("sc://HOST:PORT")] | None
    ) = None
    """The address of a Spark Connect server, such as sc://spark.example:15002/;use_ssl=true. Its executors need the
    Python version and the release of Endcap that the step has. Left out: Endcap starts a Spark for the step and ends it
    afterwards."""
    master: str = "local[*]"
    """Where a Spark that Endcap starts gets its executors, as Spark names it: local[4], spark://HOST:PORT or
    k8s://https://HOST:PORT."""
    executors: Annotated[int, Field(ge=1)] = 2
    """The number of executors, on a cluster."""
    cores: Annotated[int, Field(ge=1)] = 1
    """The cores of an executor."""
    memory: Quantity = "2Gi"
    """The memory of an executor, beside which Spark needs about a tenth more."""
    driver_memory: Quantity = "1Gi"
    """The memory of the driver. On one machine (local) the executor is in it."""
    image: str | None = None
    """The executors' image in Kubernetes, which a master k8s:// needs. It holds Spark, and the Python version and the
    release of Endcap that the step has."""
    spot: bool = False
    """Lets executors run on spot nodes. If one is taken away, the step makes again what it held."""
    nodeSelector: dict[str, str] = {}
    """The labels that an executor's node must have, in Kubernetes."""
    tolerations: list[Toleration] = []
    """The taints of nodes on which executors may run, in Kubernetes."""
    conf: dict[str, str | int | float | bool] = {}
    """More of Spark's configuration, such as spark.sql.shuffle.partitions."""

    @check
    def _spark_is_in_one_place(self) -> Iterator[Mistake]:
        if self.connect is None:
            return
        for name in sorted(self.model_fields_set - {"connect", "conf"}):
            actual = "a value, and spark.connect"
            allowed = "nothing: whoever runs the Connect server decides this"
            yield Mistake((name,), actual, allowed, code="conflict")

    @check
    def _kubernetes_has_an_image(self) -> Iterator[Mistake]:
        if self.connect is None and self.master.startswith("k8s://") and self.image is None:
            yield Mistake(("image",), "nothing", "an image with Spark and this release of Endcap", code="missing")

    @check
    def _conf_holds_no_secret(self) -> Iterator[Mistake]:
        for name, value in select_known(self.conf).items():
            if _SECRET_NAME.search(str(name)) or find_secret(str(value)):
                hint = "Others read this file: give it in the environment, or in Spark's own spark-defaults.conf."
                yield Mistake(("conf", name), "a secret", "a value without secrets", hint, code="not-allowed")
            elif name in OWN:
                yield Mistake(("conf", name), "a key of Spark", "the key of `spark:` that sets it", code="conflict")

    @check
    def _address_holds_no_secret(self) -> Iterator[Mistake]:
        if self.connect is not None and (_SECRET_NAME.search(self.connect) or find_secret(self.connect)):
            hint = "Others read this file: the variable SPARK_CONNECT_AUTHENTICATE_TOKEN has the token."
            yield Mistake(("connect",), "a secret", "an address without secrets", hint, code="not-allowed")
