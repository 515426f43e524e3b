"""No secret is on the command line of a child, where every user of a machine may read it, or in what a run leaves."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from endcap.runs import list_runs, read_run
from endcap.store import open_store
from tests.online.servers import RedisServer
from tests.pipelines.packages import spec_file
from tests.secrets_given import ENCODED, PLANTED, RAW, command_lines, files_with_it

ROOT = Path(__file__).parents[1]
SOURCES = ("endcap", "serving", "components", "pipelines")
STARTERS = {
    "endcap/cluster/login_plugin.py": "a kubeconfig's login plugin, with the arguments that stand there",
    "endcap/devices/probe.py": "a program of its own, which looks for GPUs and is told nothing",
    "endcap/cli/image_engine.py": "what a container engine is told: names, files and modules",
    "endcap/runs/code.py": "git, of this checkout",
    "endcap/sources/formats/read_excel.py": "the name of a sheet, and limits; the file goes by standard input",
    "endcap/spark/bound_process.py": "the command that endcap/spark/server.py gives",
    "endcap/spark/server.py": "a configuration that refuses secrets; the server's token goes by the environment",
    "endcap/schedules/run_process.py": "nothing: what to run goes by standard input",
    "endcap/ray_driver/process.py": "what to do goes by standard input, Ray's token by the environment",
    "pipelines/local.py": "a step's arguments, without the addresses of registry and online store",
    "serving/gateway/envoy.py": "the name of a file",
    "serving/image/audit.py": "names of files, and the address of a data base that is asked without credentials",
    "serving/gateway/login_proxy.py": "the name of a folder; who may come in stands in a file",
    "serving/image/pin.py": "names of images",
    "serving/predictor/workers.py": "the first one's command line, without the online store's address",
    "serving/gateway/xds_process.py": "a namespace, a file, a host and port",
    "serving/local/process.py": "what the supervisor gives: folders, names and ports",
}
"""Modules that start processes, and what stands on their command lines. Whoever adds one has thought of secrets."""
SETTINGS = """
  steps:
    look: {after: ingest, function: "my_look:look"}
"""
LOOK = '''
"""A step of one's own that meets a server with another password, and fails with an error that quotes addresses."""

import os
import sys
import warnings

from endcap.online import open_online


def look(registry):
    assert registry == os.environ["EXPECTED_REGISTRY"], "the step is given the registry that the run was given"
    address = os.environ["ENDCAP_ONLINE"]
    open_online(address, shop="toys", timeout=5).ping()
    warnings.warn(f"cannot read {address}")
    raise RuntimeError(f"neither {registry} nor {address} answers")
'''


@pytest.mark.slow
def test_a_run_tells_its_secrets_to_its_steps_and_to_nobody_else(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "my_look.py").write_text(LOOK)
    registry = f"postgresql://me:{ENCODED}@127.0.0.1:1/mlflow"
    with RedisServer(tmp_path / "redis", "--requirepass", RAW) as server:
        variables = {
            "ENDCAP_ONLINE": f"redis://:{ENCODED}@127.0.0.1:{server.port}\n",
            "ENDCAP_REGISTRY": f"{registry}\n",
            "EXPECTED_REGISTRY": registry,
        }
        command = [sys.executable, "-c", "from endcap.cli.main import main; main()"]
        command += ["run", str(spec_file(work, SETTINGS)), "--store", "store", "--verbose"]
        with command_lines() as seen:
            ran = subprocess.run(command, cwd=work, env=os.environ | variables, capture_output=True, text=True)
        shown = ran.stdout + ran.stderr
        assert ran.returncode == 1, shown
        assert any("endcap_components" in line or "kfp.dsl" in line for line in seen), seen
        assert [line for line in seen if PLANTED in line] == []
        assert PLANTED not in shown
        assert files_with_it(work) == []
        store = open_store(str(work / "store"))
        (run,) = list_runs(store)
        record = read_run(store, run.name)
        assert (record.failed_step, record.fault and record.fault.code) == ("look", "step.crashed")
        assert record.fault is not None
        assert "neither postgresql://…@127.0.0.1:1/mlflow nor redis://…@127.0.0.1" in record.fault.message


def test_an_empty_registry_is_the_stores_own_whatever_this_process_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from endcap.project import Project
    from endcap.registry import REGISTRY
    from endcap_pipelines.local import _without_secrets

    monkeypatch.setenv(REGISTRY, "http://stale")
    arguments, variables = _without_secrets({"store": "s", "registry": "", "online": ""})
    assert (arguments, variables) == ({"store": "s", "registry": "", "online": ""}, {REGISTRY: ""})
    monkeypatch.setenv(REGISTRY, variables[REGISTRY])
    assert Project.of(str(tmp_path), registry="").registry == ""
    monkeypatch.setenv(REGISTRY, "http://of-a-secret")
    assert Project.of(str(tmp_path), registry="").registry == "http://of-a-secret"
    assert Project.of(str(tmp_path), registry="http://given").registry == "http://given"


def test_each_module_that_starts_processes_is_known() -> None:
    starting = set()
    for file in (path for name in SOURCES for path in (ROOT / name).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if "subprocess" not in text and "exec" not in text and "SubprocessRunner" not in text:
            continue
        calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)}
        starts = ("subprocess.", "asyncio.create_subprocess", "os.exec", "os.spawn", "os.posix_spawn", "os.system")
        if any(call.startswith(starts) or call.endswith("SubprocessRunner") for call in calls):
            starting.add(str(file.relative_to(ROOT)))
    assert starting - {"serving/parent_death.py"} == set(STARTERS)
