"""etcd, the API server, the controller manager, the scheduler and KWOK's nodes: a cluster whose pods run nothing."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from endcap_serving.local.predictors import find_free_port
from tests.cluster.build import module_folder, program
from tests.cluster.certificates import Authority, Pair, write_key
from tests.cluster.keeper import Keeper

_STAGES = Path(__file__).with_name("kwok_stages.yaml")
_PATIENCE = 120.0
"""Seconds that a program may take to answer on a busy machine of two cores."""
_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")


@dataclass
class ControlPlane:
    """A running control plane. Everything listens on 127.0.0.1, on ports that were free."""

    folder: Path
    keeper: Keeper
    port: int = field(default_factory=lambda: find_free_port())

    def __post_init__(self) -> None:
        self.authority = Authority(self.folder / "certificates")
        self.admin = self.authority.issue("admin", "kubernetes-admin", ("system:masters",))
        self.kubeconfig = self.folder / "kubeconfig"

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self, gpu_nodes: tuple[int, ...], cpu_nodes: int) -> None:
        """Returns when the nodes are there. `gpu_nodes`: a node each, with so many GPUs."""
        write_kubeconfig(self.kubeconfig, self.server, self.authority.certificate, self.admin)
        self._start_api_server()
        self.wait_ready()
        common = [f"--kubeconfig={self.kubeconfig}"]
        leaderless = [*common, "--leader-elect=false", "--secure-port=0", "--kube-api-qps=200", "--kube-api-burst=400"]
        account_key = self.folder / "certificates" / "accounts.key"
        self.keeper.start(
            "kube-controller-manager",
            [
                program("kubernetes", "kube-controller-manager"),
                *leaderless,
                f"--root-ca-file={self.authority.certificate}",
                f"--service-account-private-key-file={account_key}",
                "--use-service-account-credentials=false",
            ],
        )
        self.keeper.start("kube-scheduler", [program("kubernetes", "kube-scheduler"), *leaderless])
        self.keeper.start(
            "kwok",
            [
                program("kwok", "kwok"),
                *common,
                f"--config={self._stages()}",
                "--manage-all-nodes=true",
                # Without it every pod turns NotReady after 40 s: the node's lease is not renewed.
                "--node-lease-duration-seconds=40",
                "--cidr=10.128.0.0/16",
            ],
        )
        nodes = [node(f"cpu-{number}") for number in range(1, cpu_nodes + 1)]
        nodes += [node(f"gpu-{number}", gpus) for number, gpus in enumerate(gpu_nodes, 1)]
        # Not applied by the server: that would drop the status, and with it what can be allocated.
        self.kubectl("create", "-f", "-", stdin=_listed(nodes))
        self.kubectl("wait", "--for=condition=Ready", "node", "--all", f"--timeout={_PATIENCE:.0f}s")

    def wait_ready(self) -> None:
        """Wait until the API server says that it is ready."""
        wait_until(
            lambda: self.ask("/readyz") == b"ok", "the API server is not ready", self.keeper.log("kube-apiserver")
        )

    def ask(self, path: str) -> bytes:
        """What the API server answers to a GET, as the administrator. Raises OSError where it fails."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(self.admin.certificate, self.admin.key)
        no_proxy, https = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        with urllib.request.build_opener(no_proxy, https).open(f"{self.server}{path}", timeout=5) as answer:
            return bytes(answer.read())

    def kill_api_server(self) -> None:
        self.keeper.kill("kube-apiserver")

    def restart_api_server(self) -> None:
        """Kill it (unless it was killed) and start it again; returns when it is ready."""
        self.keeper.kill("kube-apiserver")
        self.keeper.restart("kube-apiserver")
        self.wait_ready()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator; what it printed. Raises with its words where it fails."""
        command = [str(program("kubernetes", "kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
        return done.stdout

    def apply(self, objects: list[dict[str, Any]]) -> None:
        """Server-side apply, as whoever sets the cluster up."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=_listed(objects))

    def define(self, crds: list[dict[str, Any]]) -> None:
        """Create CRDs (and the policies that come with them); returns when the API server serves them."""
        self.kubectl("create", "-f", "-", stdin=_listed(crds))
        wanted = {
            (crd["spec"]["group"], version["name"], crd["spec"]["names"]["plural"])
            for crd in crds
            if crd["kind"] == "CustomResourceDefinition"
            for version in crd["spec"]["versions"]
            if version["served"]
        }

        def served() -> bool:
            # Not `kubectl wait`: it reads every CRD again and again, which is megabytes.
            groups = {(group, version) for group, version, _ in wanted}
            answers = {one: json.loads(self.ask(f"/apis/{one[0]}/{one[1]}"))["resources"] for one in groups}
            return all(name in {one["name"] for one in answers[group, version]} for group, version, name in wanted)

        wait_until(served, "the CRDs are not served")

    def _start_api_server(self) -> None:
        etcd, peer = find_free_port(), find_free_port()
        address, peers = f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"
        self.keeper.start(
            "etcd",
            [
                program("etcd", "server"),
                f"--data-dir={self.folder / 'etcd'}",
                *(f"--{kind}-client-urls={address}" for kind in ("listen", "advertise")),
                *(f"--{kind}={peers}" for kind in ("listen-peer-urls", "initial-advertise-peer-urls")),
                f"--initial-cluster=default={peers}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
        )
        serving = self.authority.issue(
            "api-server", "kube-apiserver", hosts=("127.0.0.1", "localhost", "10.96.0.1", *_NAMES)
        )
        account_key = self.folder / "certificates" / "accounts.key"
        write_key(account_key, ec.generate_private_key(ec.SECP256R1()))
        self.keeper.start(
            "kube-apiserver",
            [
                program("kubernetes", "kube-apiserver"),
                f"--etcd-servers={address}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self.port}",
                "--service-cluster-ip-range=10.96.0.0/12",
                "--endpoint-reconciler-type=none",
                "--authorization-mode=Node,RBAC",
                # The default plug-ins are on: PodSecurity, ResourceQuota, Priority, LimitRanger, the webhooks.
                f"--client-ca-file={self.authority.certificate}",
                f"--tls-cert-file={serving.certificate}",
                f"--tls-private-key-file={serving.key}",
                f"--service-account-issuer={self.server}",
                f"--service-account-key-file={account_key}",
                f"--service-account-signing-key-file={account_key}",
            ],
            {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"},
        )

    def _stages(self) -> Path:
        """KWOK's own stages of a pod, and ours. (Its stages of a node are its defaults.)"""
        folder = module_folder("kwok", "sigs.k8s.io/kwok") / "kustomize" / "stage" / "pod" / "fast"
        texts = [(folder / f"pod-{name}.yaml").read_text() for name in ("ready", "complete", "delete")]
        stages = self.folder / "stages.yaml"
        stages.write_text("\n---\n".join([*texts, _STAGES.read_text()]))
        return stages


def node(name: str, gpus: int = 0) -> dict[str, Any]:
    """A node of 16 cores and 64 GiB; with GPUs it is labelled as NVIDIA's operator does, and tainted."""
    holds = {"cpu": "16", "memory": "64Gi", "pods": "110", "ephemeral-storage": "200Gi"}
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": f"zone-{'ab'[sum(name.encode()) % 2]}",
        "type": "kwok",
    }
    taints = []
    if gpus:
        holds["nvidia.com/gpu"] = str(gpus)
        labels |= {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": "NVIDIA-L4", "endcap.dev/gpu": "true"}
        taints = [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"taints": taints},
        "status": {"allocatable": holds, "capacity": holds},
    }


def write_kubeconfig(path: Path, server: str, authority: Path, user: Pair) -> None:
    """A kubeconfig that only its owner reads; certificates are named by file."""
    certificates = {"client-certificate": str(user.certificate), "client-key": str(user.key)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": str(authority)}}],
        "users": [{"name": "admin", "user": certificates}],
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def _listed(objects: list[dict[str, Any]]) -> str:
    """One document for kubectl. JSON: CRDs are megabytes, which YAML in Python takes a minute for."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def wait_until(true: Callable[[], bool], otherwise: str, log: Path | None = None, patience: float = _PATIENCE) -> None:
    """Ask again and again; an answer that does not come (an OSError) counts as no."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            if true():
                return
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.2)
    said = f"; its log is {log}" if log else ""
    raise TimeoutError(f"{otherwise} after {patience:.0f} s{said}")
