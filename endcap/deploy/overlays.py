"""The kustomize base and overlays for `kubectl apply -k`, rendered from a recommender.

The base serves on CPU in Standard mode. Each overlay patches only what differs.
"""

from __future__ import annotations

from typing import Any

import yaml

from endcap import pseudonyms
from endcap.deploy import manifests, predictor_manifests, runtime_manifests
from endcap.deploy.gateway_settings import read_spec_settings
from endcap.deploy.state import Target, make_salt
from endcap.deploy.variants import PART_OF, REPLACES, SALT, STABLE, STABLE_TAG, Mode, settings_to_annotations
from endcap.spec import Recommender

Json = dict[str, Any]
GPU: Json = {
    "gpu": {"count": 1},
    "nodeSelector": {"nvidia.com/gpu.present": "true"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}
"""For a spec without GPU settings: the label that NVIDIA's operator and its feature discovery give GPU nodes, and the
usual taint. Managed clusters without these use a label of their cloud (docs/deploying.md)."""
CPU: Json = {"gpu": None, "nodeSelector": {}, "tolerations": [], "runtimeClassName": None}
OVERLAYS: dict[str, tuple[Mode, Json]] = {
    "cpu": ("Standard", CPU),
    "standard-gpu": ("Standard", GPU),
    "knative-gpu": ("Knative", GPU),
}
STORE = """\
# Where the packages lie: an S3 server and its keys. Fill this in before `kubectl apply -k`, which writes the Secret out
# of it, over one of the same name that is there. To keep that one, take secretGenerator out of kustomization.yaml.
# Host, and port where it is not the scheme's own:
S3_ENDPOINT=s3.example.com
# 0 for an S3 server without TLS:
S3_USE_HTTPS=1
AWS_DEFAULT_REGION=us-east-1
AWS_ACCESS_KEY_ID=replace-me
AWS_SECRET_ACCESS_KEY=replace-me
"""
_PLACEHOLDER = Target(version="1", package="s3://endcap/packages/{name}/replace-with-the-packages-key")


def make_placeholder(recommender: str) -> Target:
    """Make a version for manifests that are rendered before there is one."""
    return Target(version=_PLACEHOLDER.version, package=_PLACEHOLDER.package.format(name=recommender))


def choose_overlay(recommender: Recommender) -> str:
    """Choose the overlay for a spec by its GPUs and its mode: a key of `OVERLAYS`."""
    serving = recommender.serving.kubernetes
    if serving.gpu is None or serving.gpu.count == 0:
        return "cpu"
    return "knative-gpu" if serving.mode == "Knative" else "standard-gpu"


def render_overlays(recommender: Recommender, target: Target, command: str) -> dict[str, str]:
    """Render the kustomize base and all overlays.

    Parameters
    ----------
    recommender
        The spec.
    target
        The version to serve, and its package's address.
    command
        The command that the first line of each file names.

    Returns
    -------
    dict of str to str
        The text of each file by its path: `base/…` and `overlays/<name>/…`.
    """
    head = f"# Written by `{command}`; do not edit.\n"
    base = _of(recommender, target, "Standard", CPU)
    files = {f"base/{name}.yaml": head + _yaml(thing) for name, thing in _base(recommender, base).items()}
    secret = recommender.serving.kubernetes.secret
    warning = f"# It writes the Secret {secret} out of store.env, over one that is there; see store.env.\n"
    files["base/kustomization.yaml"] = files["base/kustomization.yaml"].replace(head, head + warning, 1)
    files["base/store.env"] = STORE
    for name, (mode, pod) in OVERLAYS.items():
        changed = _merge_patch(base, _of(recommender, target, mode, pod))
        kustomization: Json = {**_HEAD, "resources": ["../../base"]}
        if changed:
            names = {key: base[key] for key in ("apiVersion", "kind")} | {"metadata": {"name": recommender.name}}
            changed["metadata"] = {**names["metadata"], **changed.get("metadata", {})}
            files[f"overlays/{name}/inferenceservice.yaml"] = head + _yaml({**names, **changed})
            kustomization["patches"] = [{"path": "inferenceservice.yaml", "target": {"kind": base["kind"]}}]
        files[f"overlays/{name}/kustomization.yaml"] = head + _yaml(kustomization)
    return files


_HEAD = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}


def _base(recommender: Recommender, service: Json) -> dict[str, Json]:
    serving = recommender.serving.kubernetes
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": serving.namespace,
            "labels": {PART_OF: "endcap", "pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    secret = {"name": serving.secret, "envs": ["store.env"], "options": {"disableNameSuffixHash": True}}
    things = {
        "namespace": namespace,
        "serviceaccount": runtime_manifests.render_service_account(serving.namespace, serving),
        "servingruntime": runtime_manifests.render_serving_runtime(
            serving.namespace,
            serving.image or runtime_manifests.IMAGE,
            runtime_manifests.ONLINE_SECRET,
            runtime_manifests.SAMPLES_SECRET,
            pseudonyms.SECRET,
        ),
        "inferenceservice": service,
    }
    kustomization = {
        **_HEAD,
        "namespace": serving.namespace,
        "resources": [f"{name}.yaml" for name in things],
        "secretGenerator": [secret],
    }
    return {"kustomization": kustomization, **things}


def _of(recommender: Recommender, target: Target, mode: Mode, pod: Json) -> Json:
    serving = recommender.serving.kubernetes
    if not (pod is GPU and serving.gpu):
        serving = serving.model_validate(serving.model_dump(mode="json") | pod)
    changed = recommender.model_copy(update={"serving": recommender.serving.model_copy(update={"kubernetes": serving})})
    annotations = {SALT: make_salt(recommender.name, target.version), STABLE: target.version}
    annotations |= settings_to_annotations(read_spec_settings(recommender))
    if mode == "Knative":
        annotations |= {STABLE_TAG: "latest", REPLACES: ""}
    predictor = predictor_manifests.render_predictor(changed, mode, target)
    return manifests.render_inference_service(changed, serving.namespace, mode, predictor, annotations)


def _merge_patch(before: Json, after: Json) -> Json:
    """Make the JSON merge patch from one to the other: null removes a key, and lists are replaced whole."""
    patch: Json = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := _merge_patch(old, value):
                patch[key] = inner
        elif old != value:
            patch[key] = value
    return patch


def _yaml(thing: Json) -> str:
    return yaml.safe_dump(thing, sort_keys=False, width=120)
