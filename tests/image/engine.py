"""Podman with its storage below `build/image`, and a stand-in for the base image that a registry would give.

The stand-in is Debian bookworm with Debian's Python 3.11, put together by debootstrap; it is kept between runs, the
images are not, unless ENDCAP_KEEP_IMAGES is set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from endcap_serving.local.predictors import find_free_port
from tests.conftest import ROOT

FOLDER = ROOT / "build" / "image"
CONTEXT = FOLDER / "context"
"""A copy of what images are made of, so that an edit between two builds does not part them."""
SOURCES = [
    ".dockerignore",
    "pyproject.toml",
    "requirements.txt",
    "README.md",
    "LICENSE",
    "endcap",
    "components",
    "pipelines",
    "serving",
]
NEEDED = {"podman": "podman", "runc": "runc", "debootstrap": "debootstrap", "skopeo": "skopeo"}
BASE = "localhost/endcap-test-python:3.11"
LIMIT = 4096
"""Files and processes: podman's own defaults are refused on machines that allow fewer."""
RESTRICTED = ["--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp:rw,mode=1777", "--cap-drop=ALL"]
"""As the restricted Pod Security Standard has it, and with a read-only root file system."""
RESTRICTED += ["--security-opt=no-new-privileges", "--network=none"]


@dataclass(frozen=True)
class Engine:
    """Podman as the tests call it. environment: what makes every tool of its family use the tests' storage."""

    environment: dict[str, str]
    registry_port: int

    def podman(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman; with `check` its failure is the test's, with what it said."""
        run = subprocess.run(["podman", *words], env=self.environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0 or not check, f"podman {' '.join(words)}\n{run.stdout}{run.stderr}"
        return run

    def build(self, target: str) -> str:
        """The image of one of the Dockerfile's targets; layers that were built before are not built again."""
        tag = f"localhost/{target}:test"
        arguments = {"BASE": BASE, "VERSION": "0-test", "REVISION": "c0ffee"}
        words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        file = str(CONTEXT / "serving/image/Dockerfile")
        self.podman("build", "--layers", *words, "--file", file, "--target", target, "--tag", tag, str(CONTEXT))
        return tag

    def run(
        self, image: str, *command: str, options: tuple[str, ...] = (), check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a restricted container without a network, to its end."""
        return self.podman("run", "--rm", *RESTRICTED, *options, image, *command, check=check)

    @contextmanager
    def running(self, image: str, *command: str, options: tuple[str, ...] = ()) -> Iterator[str]:
        """A restricted container, by its id, for the length of the block."""
        container = self.podman("run", "--detach", *RESTRICTED, *options, image, *command).stdout.strip()
        try:
            yield container
        finally:
            self.podman("rm", "--force", container)


@contextmanager
def started() -> Iterator[Engine]:
    """Podman with the stand-in image in its storage. Skips, saying what is missing, where it cannot work."""
    if os.geteuid():
        pytest.skip("images are built by root alone: debootstrap and chroot need it")
    if missing := [package for program, package in NEEDED.items() if shutil.which(program) is None]:
        pytest.skip(f"missing: apt-get install --no-install-recommends {' '.join(missing)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    engine = Engine(*_configured())
    try:
        if engine.podman("image", "exists", BASE, check=False).returncode:
            engine.podman("import", str(_stand_in()), BASE)
        shutil.rmtree(CONTEXT, ignore_errors=True)
        CONTEXT.mkdir()
        for name in SOURCES:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, CONTEXT / name)
        yield engine
    finally:
        if not os.environ.get("ENDCAP_KEEP_IMAGES"):
            engine.podman("rm", "--all", "--force", check=False)
            # Its storage is mounted on itself.
            subprocess.run(["umount", "--recursive", FOLDER / "storage/overlay"], capture_output=True, check=False)
            for name in ("storage", "run"):
                shutil.rmtree(FOLDER / name)


def _configured() -> tuple[dict[str, str], int]:
    """The environment that sets podman and skopeo up, and the port of the registry that they may talk to."""
    port = find_free_port()
    ulimits = ", ".join(f'"{name}={LIMIT}:{LIMIT}"' for name in ("nofile", "nproc"))
    files = {
        "CONTAINERS_STORAGE_CONF": (
            f'[storage]\ndriver = "overlay"\ngraphroot = "{FOLDER}/storage"\nrunroot = "{FOLDER}/run"\n'
        ),
        # Not crun, which refuses machines with both versions of control groups.
        "CONTAINERS_CONF": (
            f'[containers]\nnetns = "host"\ndefault_ulimits = [{ulimits}]\n'
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
        ),
    }
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "TMPDIR": str(FOLDER / "tmp")}
    (FOLDER / "tmp").mkdir(exist_ok=True)
    for name, text in files.items():
        file = FOLDER / f"{name.lower()}.conf"
        file.write_text(text)
        environment[name] = str(file)
    # Skopeo looks for this file alone, in the home.
    registries = FOLDER / "home/.config/containers/registries.conf"
    registries.parent.mkdir(parents=True, exist_ok=True)
    registries.write_text(f'[[registry]]\nlocation = "127.0.0.1:{port}"\ninsecure = true\n')
    return {**environment, "HOME": str(FOLDER / "home")}, port


def _stand_in() -> Path:
    """The stand-in's files as a tar; made once, in a minute or two."""
    tar = FOLDER / "python-3.11-bookworm.tar"
    if not tar.exists():
        root = FOLDER / "root"
        shutil.rmtree(root, ignore_errors=True)
        packages = "python3,python3-venv,python3-pip,python-is-python3,ca-certificates"
        log = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", root],
            capture_output=True,
            text=True,
            check=False,
        )
        assert log.returncode == 0, log.stdout[-4000:]
        # This machine's trust, as a company's base image has its own.
        for file in (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pip.conf")):
            if file.exists():
                shutil.copy(file, root / file.relative_to("/"))
        shutil.rmtree(root / "var/cache/apt")
        subprocess.run(["tar", "-C", root, "-cf", f"{tar}.draft", "."], check=True)
        Path(f"{tar}.draft").replace(tar)
        shutil.rmtree(root)
    return tar
