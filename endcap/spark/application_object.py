"""The SparkApplication object, of which Kubeflow's Spark operator makes a driver and executors for one step.

The driver's main program is `endcap.spark.connect_driver`. A pod template has what the object's own fields could only
set through the operator's webhook, which not every cluster runs (operator 2.1 and later).
"""

from __future__ import annotations

from datetime import timedelta
from importlib.metadata import version
from typing import Any

from endcap import pseudonyms
from endcap.cluster.kinds import SECRET, SPARK_APPLICATION
from endcap.cluster.security import make_container_security, make_pod_security
from endcap.spark.configuration import SHARED, to_spark_size, to_text
from endcap.spark.server import TOKEN
from endcap.spec.pod import SPOT
from endcap.spec.spark import SparkSpec
from endcap.store import pod_secret

Json = dict[str, Any]
DRIVER, EXECUTOR = "spark-kubernetes-driver", "spark-kubernetes-executor"
"""The names of the containers, as Spark and the operator have them."""
APPLICATION, ROLE = "sparkoperator.k8s.io/app-name", "spark-role"
"""Labels of the pods."""
PORT = 15002
"""Where the driver serves Spark Connect."""
ENDS_IDLE = timedelta(minutes=10)
"""How long the driver goes on without a session. This ends what a killed step left in another namespace."""
SESSION_ENDS_IDLE = timedelta(minutes=30)
"""How long a session lasts whose client sends nothing. A statement that runs sends something every few minutes."""
KEPT = timedelta(minutes=10)
"""How long the operator keeps an application that has ended."""
_LABELS = {
    "app.kubernetes.io/managed-by": "endcap",
    "app.kubernetes.io/part-of": "endcap",
    "app.kubernetes.io/component": "spark",
}
_PLUGIN = "org.apache.spark.sql.connect.SparkConnectPlugin"
_FOLDER = "/opt/endcap-driver"
_COPY = (
    'exec "${PYSPARK_PYTHON:-python3}" -c "import shutil, endcap.spark.connect_driver as program; '
    f"shutil.copy(program.__file__, '{_FOLDER}')\""
)
_LITTLE = {"cpu": "500m", "memory": "256Mi"}
_KEY_REFERENCE = {"name": pseudonyms.SECRET, "key": pseudonyms.KEY, "optional": True}
_PSEUDONYM_KEY: Json = {"name": pseudonyms.KEY, "valueFrom": {"secretKeyRef": _KEY_REFERENCE}}
"""A variable of executors: they parse logs, and put pseudonyms into them if the shop has some."""
_TMP = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - of the pod's own


def build_application(spec: SparkSpec, name: str, namespace: str, owner: Json | None) -> Json:
    """Build the object.

    Parameters
    ----------
    spec
        The section, with an application and an image.
    name, namespace
        Of the object. Its token is in the Secret of the same name.
    owner
        The step's pod, as `endcap.cluster.own_pod.build_owner_reference` returns it.
    """
    assert spec.application is not None
    assert spec.image is not None
    metadata: Json = {"name": name, "namespace": namespace, "labels": _LABELS}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {
        "apiVersion": SPARK_APPLICATION.api_version,
        "kind": SPARK_APPLICATION.name,
        "metadata": metadata,
        "spec": {
            "type": "Python",
            "pythonVersion": "3",
            "mode": "cluster",
            "sparkVersion": version("pyspark"),
            "image": spec.image,
            "mainApplicationFile": f"local://{_FOLDER}/connect_driver.py",
            "arguments": [f"{ENDS_IDLE.total_seconds():.0f}"],
            "sparkConf": _build_configuration(spec),
            # A driver that is started again has lost the session, and with it all tables of the step.
            "restartPolicy": {"type": "Never"},
            "timeToLiveSeconds": int(KEPT.total_seconds()),
            "driver": {
                "cores": 1,
                "memory": to_spark_size(spec.driver_memory),
                "serviceAccount": spec.application.service_account,
                "template": {"spec": _build_driver_pod(spec.image, name)},
            },
            "executor": {
                "instances": spec.executors,
                "cores": spec.cores,
                "memory": to_spark_size(spec.memory),
                "template": {"spec": _build_executor_pod(spec, spec.application.secret)},
            },
        },
    }


def build_token_secret(application: Json, token: str) -> Json:
    """Build the Secret with the token, which Kubernetes removes with the application.

    Parameters
    ----------
    application
        The object as the API server has it.
    token
        What the step shows to the driver.
    """
    metadata = application["metadata"]
    owner = {
        "apiVersion": SPARK_APPLICATION.api_version,
        "kind": SPARK_APPLICATION.name,
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    return {
        "apiVersion": SECRET.api_version,
        "kind": SECRET.name,
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": _LABELS,
            "ownerReferences": [owner],
        },
        "stringData": {TOKEN: token},
    }


def _build_configuration(spec: SparkSpec) -> dict[str, str]:
    values: Json = {
        **SHARED,
        "spark.connect.grpc.binding.port": PORT,
        "spark.connect.session.manager.defaultSessionTimeout": f"{SESSION_ENDS_IDLE.total_seconds():.0f}s",
        **spec.conf,
    }
    plugins = [str(spec.conf["spark.plugins"])] if "spark.plugins" in spec.conf else []
    values["spark.plugins"] = ",".join([*plugins, _PLUGIN])
    return {name: to_text(value) for name, value in values.items()}


def _build_driver_pod(image: str, secret: str) -> Json:
    program = {"name": "program", "mountPath": _FOLDER}
    token = {"name": TOKEN, "valueFrom": {"secretKeyRef": {"name": secret, "key": TOKEN}}}
    return {
        "securityContext": make_pod_security(),
        "initContainers": [
            {
                "name": "endcap",
                "image": image,
                "command": ["/bin/sh", "-c", _COPY],
                "resources": {"requests": _LITTLE, "limits": _LITTLE},
                "securityContext": make_container_security(),
                "volumeMounts": [program, _TMP],
            }
        ],
        "containers": [
            {
                "name": DRIVER,
                "workingDir": "/tmp",  # noqa: S108 - of the pod's own
                "env": [token],
                "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 2},
                "securityContext": make_container_security(),
                "volumeMounts": [{**program, "readOnly": True}, _TMP],
            }
        ],
        "volumes": [{"name": "program", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    }


def _build_executor_pod(spec: SparkSpec, secret: str) -> Json:
    pod: Json = {
        # It has the driver's account, and no use for it.
        "automountServiceAccountToken": False,
        "securityContext": make_pod_security(),
        "containers": [
            {
                "name": EXECUTOR,
                "workingDir": "/tmp",  # noqa: S108 - of the pod's own
                "env": [*pod_secret.build_variables(secret), _PSEUDONYM_KEY],
                "securityContext": make_container_security(),
                "volumeMounts": [*pod_secret.MOUNTS, _TMP],
            }
        ],
        "volumes": [*pod_secret.build_volumes(secret), {"name": "tmp", "emptyDir": {}}],
    }
    if spec.nodeSelector:
        pod["nodeSelector"] = dict(spec.nodeSelector)
    if tolerations := [*spec.tolerations, *(SPOT if spec.spot else ())]:
        pod["tolerations"] = [toleration.model_dump(exclude_none=True) for toleration in tolerations]
    return pod
