"""The command line before it does anything."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from endcap.cli.main import COMMANDS, main
from tests.cli.printed_errors import find_code, parse_error

ROOT = Path(__file__).parents[2]


def test_help_names_every_command_and_imports_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; from endcap.cli.main import main; main(['--help'])\n"
        "heavy = {'torch', 'kserve', 'mlflow', 'kfp', 'pandas', 'duckdb', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert all(name in shown.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_answers_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([name, "--help"])
    assert "Usage:" in capsys.readouterr().out


def test_what_is_wrong_with_the_call_is_said_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["spec", "check", "no-such-spec"])
    assert ended.value.code == 2
    assert find_code(capsys.readouterr().err) == "spec.not-found"


def test_with_json_an_error_is_a_document_on_standard_output_and_a_line_with_its_code_beside(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["spec", "show", "no-such-spec", "--json"])
    said = capsys.readouterr()
    error = parse_error(said.out)
    assert (ended.value.code, error["code"], error["fields"]["spec"]) == (2, "spec.not-found", "no-such-spec")
    assert find_code(said.err) == error["code"]


@pytest.mark.parametrize(
    "arguments", [["runs", "show", "--json"], ["spec", "show", "trial", "--json", "--unknown"], ["nothing", "--json"]]
)
def test_with_json_a_wrong_call_is_a_document_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    error = parse_error(capsys.readouterr().out)
    assert (ended.value.code, error["code"]) == (2, "cli.usage")
    assert error["fields"]["command"].startswith("endcap")


def test_what_the_system_refuses_has_a_code_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "--json", "--store", f"/tmp/{'x' * 300}"])
    error = parse_error(capsys.readouterr().out)
    assert ended.value.code == 1
    assert (error["code"], error["fields"]["errno"]) == ("cli.system", "ENAMETOOLONG")


def test_the_wheel_holds_every_module_under_names_that_begin_with_endcap(tmp_path: Path) -> None:
    # Built from a copy: what setuptools leaves beside the sources would find its way into the next wheel.
    checkout = tmp_path / "checkout"
    for folder in ("endcap", "components", "pipelines", "serving"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, checkout)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(checkout)],
        check=True,
        capture_output=True,
    )
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert {name.partition("/")[0].partition("-")[0].partition(".")[0] for name in names} <= {
        "endcap",
        "endcap_components",
        "endcap_pipelines",
        "endcap_serving",
    }
    for folder, package in (
        ("endcap", "endcap"),
        ("components", "endcap_components"),
        ("pipelines", "endcap_pipelines"),
        ("serving", "endcap_serving"),
    ):
        modules = {file.relative_to(ROOT / folder) for file in (ROOT / folder).rglob("*.py")}
        # What builds the images is no part of what is in them.
        assert {f"{package}/{module}" for module in modules if module.parts[0] != "image"} <= set(names)
    assert "endcap_pipelines/specs/demo.yaml" in names
    assert "endcap_pipelines/specs/environments.yaml" not in names
    assert "endcap_pipelines/specs/shops/demo.yaml" in names
