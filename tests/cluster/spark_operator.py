"""What Kubeflow's Spark operator and Spark would do to SparkApplications of a namespace, done by the test."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from endcap.spark import connect_driver
from endcap.spark.application_object import APPLICATION, DRIVER, ROLE
from endcap.spark.server import TOKEN
from tests.cluster.given import Cluster, eventually

Json = dict[str, Any]


class SparkOperator:
    """Sets the status of the one application of a namespace, and of its driver's pod."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def list_names(self) -> list[str]:
        return [thing["metadata"]["name"] for thing in self.cluster.list("sparkapplications", self.namespace)]

    def list_secrets(self) -> list[str]:
        names = [thing["metadata"]["name"] for thing in self.cluster.list("secrets", self.namespace)]
        return [name for name in names if name.startswith("endcap-spark-")]

    def wait_for_application(self) -> Json:
        (application,) = eventually(lambda: self.cluster.list("sparkapplications", self.namespace))
        return dict(application)

    def set_state(self, state: str, message: str = "", executors: dict[str, str] | None = None) -> None:
        driver = {"podName": "driver"}
        status = {"applicationState": {"state": state, "errorMessage": message}, "driverInfo": driver}
        status["executorState"] = executors or {}
        name = self.wait_for_application()["metadata"]["name"]
        self._patch_status("sparkapplication", name, status)

    def make_driver(self, ip: str = "10.9.8.7", ready: bool = True) -> None:
        """The driver's pod, which no node takes: its status is the test's."""
        application = self.wait_for_application()
        name = application["metadata"]["name"]
        metadata = {"name": "driver", "labels": {APPLICATION: name, ROLE: "driver"}}
        containers = [{"name": DRIVER, "image": application["spec"]["image"]}]
        spec = {"containers": containers, "schedulerName": "nobody", "automountServiceAccountToken": False}
        eventually(
            lambda: self.cluster.kubectl("-n", self.namespace, "get", "serviceaccount", "default", check=False).stdout
        )
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        self.cluster.apply(pod, namespace=self.namespace)
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions}
        self._patch_status("pod", "driver", status)

    def set_container(self, state: Json) -> None:
        """Set the state of the driver's container."""
        container = {"name": DRIVER, "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        ready = {"type": "Ready", "status": "False"}
        self._patch_status("pod", "driver", {"containerStatuses": [container], "conditions": [ready]})

    def start(self, ip: str = "10.9.8.7") -> None:
        """Let the driver and one of two executors run."""
        self.make_driver(ip)
        self.set_state("RUNNING", executors={"exec-1": "RUNNING", "exec-2": "PENDING"})

    def _patch_status(self, kind: str, name: str, status: Json) -> None:
        patch = json.dumps({"status": status})
        words = ("patch", kind, name, "--subresource=status", "--type=merge", "-p", patch)
        self.cluster.kubectl("-n", self.namespace, *words)

    @contextmanager
    def run_driver(self, ip: str, folder: Path) -> Iterator[None]:
        """Run the application's main program on this machine, as its object says: a real Spark that serves Connect."""
        import pyspark

        application = self.wait_for_application()
        name, spec = application["metadata"]["name"], application["spec"]
        assert Path(spec["mainApplicationFile"]).name == Path(connect_driver.__file__).name
        data = eventually(lambda: self.cluster.get("secret", name, self.namespace)["data"])
        environment = {
            **os.environ,
            TOKEN: base64.b64decode(data[TOKEN]).decode(),
            "PYSPARK_PYTHON": sys.executable,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        here = {"spark.connect.grpc.binding.address": ip, "spark.driver.host": "127.0.0.1", "spark.ui.enabled": "false"}
        command = [str(Path(pyspark.__file__).parent / "bin" / "spark-submit"), "--master", "local[1]"]
        command += ["--driver-memory", spec["driver"]["memory"]]
        for key, value in {**spec["sparkConf"], **here}.items():
            command += ["--conf", f"{key}={value}"]
        command += [connect_driver.__file__, *spec["arguments"]]
        log = folder / "driver.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=folder)
        try:
            eventually(lambda: process.poll() is not None or b"Spark Connect listens" in log.read_bytes(), 240)
            assert process.poll() is None, log.read_text()
            self.start(ip)
            yield
        finally:
            process.terminate()
            process.wait()
