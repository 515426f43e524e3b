"""Where Spark runs, for steps whose engine is Spark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from endcap.redaction import find_secret
from endcap.spec.base import Allowed, Duration, Mistake, Name, Strict, check, select_known
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


class SparkApplicationSpec(Strict):
    """A SparkApplication that Kubeflow's Spark operator runs for the step, and that is removed when the step ends. Its
    driver serves Spark Connect, with a token of its own."""

    namespace: Name | None = None
    """The namespace of the SparkApplication, which the operator must watch. Left out: the step's namespace. Then the
    step's pod owns the SparkApplication, and Kubernetes removes both together."""
    service_account: Name = "spark-operator-spark"
    """The account of the driver, which makes the executors."""
    secret: Name = "endcap-store"  # noqa: S105 - a Secret's name
    """The Secret in that namespace from which executors have the store's credentials, as `pipeline.secret` is the one
    of steps."""
    ready_within: Duration = Field(default="15m", validate_default=True)
    """The longest time that the step waits for the driver and the first executor. Then the step fails."""


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
    application: SparkApplicationSpec | None = None
    """A SparkApplication to make for the step in Kubernetes. Left out: none is made."""
    executors: Annotated[int, Field(ge=1)] = 2
    """The number of executors, on a cluster."""
    cores: Annotated[int, Field(ge=1)] = 1
    """The cores of an executor."""
    memory: Quantity = "2Gi"
    """The memory of an executor, beside which Spark needs about a tenth more."""
    driver_memory: Quantity = "1Gi"
    """The memory of the driver. On one machine (local) the executor is in it."""
    image: str | None = None
    """The executors' image in Kubernetes, which a master k8s:// and a SparkApplication need; the latter's driver has it
    too. It holds Spark, and the Python version and the release of Endcap that the step has."""
    spot: bool = False
    """Lets executors run on spot nodes. If one is taken away, the step makes again what it held."""
    nodeSelector: dict[str, str] = {}
    """The labels that an executor's node must have, in Kubernetes."""
    tolerations: list[Toleration] = []
    """The taints of nodes on which executors may run, in Kubernetes."""
    conf: dict[str, str | int | float | bool] = {}
    """More of Spark's configuration, such as spark.sql.shuffle.partitions."""

    def _list_changed(self, but: set[str]) -> list[str]:
        """List the keys that have another value than their default, which a spec that is written out whole has too."""
        fields = type(self).model_fields
        return sorted(name for name in fields.keys() - but if getattr(self, name) != fields[name].default)

    @check
    def _spark_is_in_one_place(self) -> Iterator[Mistake]:
        if self.connect is None:
            return
        for name in self._list_changed({"connect", "conf"}):
            actual = "a value, and spark.connect"
            allowed = "nothing: whoever runs the Connect server decides this"
            yield Mistake((name,), actual, allowed, code="conflict")

    @check
    def _an_application_has_no_master(self) -> Iterator[Mistake]:
        if self.application is not None and "master" in self._list_changed({"application"}):
            actual, allowed = "a master, and spark.application", "nothing: the operator decides this"
            yield Mistake(("master",), actual, allowed, code="conflict")

    @check
    def _kubernetes_has_an_image(self) -> Iterator[Mistake]:
        in_kubernetes = self.application is not None or self.master.startswith("k8s://")
        if self.connect is None and in_kubernetes and self.image is None:
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
