"""What needs no container engine: the files that images are made of, and `endcap image` with engines that pretend."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from endcap.cli.image import command
from tests.conftest import ROOT

DIGEST = f"sha256:{'ab' * 32}"
IMAGE = ROOT / "serving" / "image"


def test_every_argument_of_the_bake_file_is_one_of_the_dockerfile() -> None:
    bake, dockerfile = (IMAGE / "docker-bake.hcl").read_text(), (IMAGE / "Dockerfile").read_text()
    (block,) = re.findall(r"args = \{(.*?)\}", bake, re.DOTALL)
    assert set(re.findall(r"(\w+) *=", block)) == set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))
    stages = set(re.findall(r"^FROM \S+ AS (\w+)", dockerfile, re.MULTILINE))
    assert set(re.findall(r'target +"?=? *"(\w+)"', bake)) <= stages


def test_without_make_pin_and_with_it_one_base_image_is_named() -> None:
    named = json.loads((IMAGE / "images.json").read_text())["variable"]["BASE"]["default"]
    default = re.search(r"^ARG BASE=(\S+)", (IMAGE / "Dockerfile").read_text(), re.MULTILINE)
    assert default is not None
    assert re.fullmatch(rf"{re.escape(default[1])}(@sha256:[0-9a-f]{{64}})?", named)


def program(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of the PATH: the machine has the programs in it and no others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def pin(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, IMAGE / "pin.py", file], env=dict(os.environ), capture_output=True, text=True, check=False
    )


def test_pin_takes_the_first_tool_that_resolves(programs: Path, tmp_path: Path) -> None:
    program(programs, "docker", "echo no daemon >&2; exit 1")
    program(programs, "crane", f'[ "$2" = example.com/python:3.11 ] && echo {DIGEST}')
    file = tmp_path / "images.json"
    file.write_text(json.dumps({"variable": {"BASE": {"default": f"example.com/python:3.11@sha256:{'0' * 64}"}}}))
    assert pin(file).returncode == 0
    assert json.loads(file.read_text())["variable"]["BASE"]["default"] == f"example.com/python:3.11@{DIGEST}"


def test_pin_writes_nothing_that_no_tool_resolved(programs: Path, tmp_path: Path) -> None:
    program(programs, "crane", f'[ "$2" = example.com/one:1 ] && echo {DIGEST} || echo latest')
    file = tmp_path / "images.json"
    images = {"A": {"default": "example.com/one:1"}, "B": {"default": "example.com/two:2"}}
    file.write_text(json.dumps({"variable": images}))
    refused = pin(file)
    assert refused.returncode == 1
    assert "no digest of example.com/two:2 was resolved" in refused.stderr
    assert "skopeo: not installed" in refused.stderr
    assert json.loads(file.read_text())["variable"] == images


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    (folder / "models" / "__pycache__").mkdir(parents=True)
    (folder / "models" / "__init__.py").write_text("")
    (folder / "models" / "__pycache__" / "x.pyc").write_text("")
    (folder / "steps.py").write_text("")
    (folder / "notes.txt").write_text("")
    return folder


def image(*words: str) -> Result:
    return CliRunner().invoke(command, [*words, "--tag", "example.com/shop:1"])


def test_code_is_a_package_a_module_or_a_folder_of_both(code: Path, tmp_path: Path) -> None:
    for number, given in enumerate((code, code / "models")):
        kept = tmp_path / f"context-{number}"
        shown = image("--code", str(given), "--context", str(kept), "--print", "--base", "example.com/endcap:1")
        assert shown.exit_code == 0, shown.output
        assert shown.output.startswith("# Written by `endcap image`.\nFROM example.com/endcap:1\n")
        assert shown.output == (kept / "Dockerfile").read_text()
        files = {str(file.relative_to(kept / "code")) for file in (kept / "code").rglob("*") if file.is_file()}
        assert files == {"models/__init__.py", *(["steps.py"] if given == code else [])}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to add"),
        (["--code", "{src}/notes.txt"], "cannot be imported"),
        (["--code", "{src}/models/__pycache__"], "found no modules"),
        (["--requirements", "{src}/requirements.txt"], "line 2: found '-r other.txt'"),
    ],
)
def test_what_cannot_be_built_is_said_before_an_engine_runs(code: Path, words: list[str], said: str) -> None:
    (code / "requirements.txt").write_text("humanize\n-r other.txt\n")
    refused = image(*(word.format(src=code) for word in words))
    assert said in str(refused.exception)


def test_without_an_engine_that_works_each_says_why(code: Path, programs: Path) -> None:
    program(programs, "docker", "echo Cannot connect to the Docker daemon >&2; exit 1")
    said = str(image("--code", str(code)).exception)
    for words in ("docker: Cannot connect", "podman: not installed", "buildah: not installed", "--print"):
        assert words in said


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_the_digest_alone_is_on_standard_output(code: Path, programs: Path, tmp_path: Path, engine: str) -> None:
    digests = {
        "docker": f"""[ "$2" = inspect ] && echo '["example.com/other@sha256:0", "example.com/shop@{DIGEST}"]'""",
        "podman": f'[ "$1" = push ] && echo {DIGEST} > "$3"',
    }
    program(programs, engine, f'echo "$@" >> {tmp_path}/calls\n{digests[engine]}\nexit 0')
    pushed = subprocess.run(
        [Path(sys.executable).with_name("endcap"), "image", "--code", code, "--tag", "example.com/shop:1", "--push"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert pushed.stdout == f"example.com/shop@{DIGEST}\n", pushed.stderr
    calls = [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls[1:3] == ["build", "push"]
