"""Audit what the image installs: ``python serving/image/audit.py`` (`make audit`).

The packages are installed as the Dockerfile installs them, into an environment of their own. From that come a CycloneDX
bill of materials and the licences; the pins of requirements.txt, development's too, are looked up among known
vulnerabilities. `audit.json`, beside this file, says which licences may be used, which packages are exceptions and why,
and which vulnerabilities are accepted and why.

Exit status: 0, also where the data base of vulnerabilities could not be reached, which is said; 1 where a licence may
not be used or a vulnerability is known.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
POLICY = Path(__file__).with_name("audit.json")
LOCK = ROOT / "requirements.txt"
OSV = "https://api.osv.dev/v1/query"
_TOOLS = Path(sys.executable).parent
_UNREACHABLE = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "NameResolutionError", "SSLError", "ProxyError")


def install(folder: Path) -> Path:
    """An environment with the packages of the image, and nothing else. Returns its interpreter."""
    python = folder / "bin" / "python"
    _run("uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    project = ["--require-hashes", "-r", str(ROOT / "pyproject.toml"), "-c", str(LOCK)]
    _run("uv", "pip", "install", "--quiet", "--python", str(python), *project)
    return python


def write_materials(python: Path, file: Path) -> list[dict[str, Any]]:
    """The environment's bill of materials, as CycloneDX 1.6 in JSON. Returns its components."""
    described = ["--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application"]
    written = ["--output-reproducible", "--spec-version", "1.6", "--output-format", "JSON", "--output-file", str(file)]
    _run("cyclonedx-py", "environment", *described, *written, str(python))
    components: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["components"]
    return components


def refused_licences(components: list[dict[str, Any]], policy: dict[str, Any]) -> dict[str, list[str]]:
    """Components whose licences the policy does not allow, with what they declare; an empty list: nothing.

    A component may declare several licences; all must be allowed, and of an expression with OR one side.
    """
    refused = {}
    for component in components:
        declared = [_name(licence) for licence in component.get("licenses", [])]
        excepted = any(fnmatch.fnmatch(component["name"].lower(), name) for name in policy["exceptions"])
        if not excepted and not (declared and all(_is_allowed(name, policy) for name in declared)):
            refused[f"{component['name']} {component['version']}"] = declared
    return refused


def find_vulnerabilities(lock: Path, osv: str, file: Path, ignored: list[str]) -> list[str] | None:
    """Known vulnerabilities of a lock's packages, a line each; None where the data base cannot be reached.

    Raises RuntimeError where the lock cannot be audited.
    """
    words = ["pip-audit", "--requirement", str(lock), "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    words += ["--vulnerability-service", "osv", "--osv-url", osv, "--format", "json", "--output", str(file)]
    words += [word for name in ignored for word in ("--ignore-vuln", name)]
    file.unlink(missing_ok=True)
    run = subprocess.run([str(_TOOLS / words[0]), *words[1:]], capture_output=True, text=True, check=False)
    if not file.exists():
        if any(name in run.stderr for name in _UNREACHABLE):
            return None
        raise RuntimeError(f"pip-audit could not read {lock.name}: {run.stderr.strip()[-2000:]}")
    packages = json.loads(file.read_text(encoding="utf-8"))["dependencies"]
    return [
        f"{package['name']} {package['version']}: {flaw['id']} {' '.join(flaw['aliases'])}, mended in "
        f"{', '.join(flaw['fix_versions']) or 'no release'}"
        for package in packages
        for flaw in package.get("vulns", [])
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Audit the packages of the image.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "audit", help="the folder for what is written")
    parser.add_argument("--osv", default=os.environ.get("OSV_URL", OSV), help="the data base of vulnerabilities")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    policy = json.loads(POLICY.read_text(encoding="utf-8"))

    components = write_materials(install(options.out / "environment"), options.out / "image.cdx.json")
    print(f"materials        {len(components)} packages, {options.out / 'image.cdx.json'}")
    refused = refused_licences(components, policy)
    print(f"licences         {len(components) - len(refused)} allowed, {len(refused)} refused")
    for package, declared in refused.items():
        print(f"  {package}: {', '.join(declared) or 'none is declared'}; see {POLICY.name}")
    flaws = find_vulnerabilities(LOCK, options.osv, options.out / "vulnerabilities.json", list(policy["ignored"]))
    if flaws is None:
        print(f"vulnerabilities  NOT CHECKED: {options.osv} cannot be reached; OSV_URL names another data base")
    else:
        print(f"vulnerabilities  {len(flaws)} known, {len(policy['ignored'])} accepted")
        for line in flaws:
            print(f"  {line}")
    return 1 if refused or flaws else 0


def _run(*words: str) -> None:
    subprocess.run([str(_TOOLS / words[0]), *words[1:]], check=True)


def _name(licence: dict[str, Any]) -> str:
    """As CycloneDX has it: an expression, or an identifier, or a name."""
    if "expression" in licence:
        return str(licence["expression"])
    return str(licence["license"].get("id") or licence["license"]["name"])


def _is_allowed(name: str, policy: dict[str, Any]) -> bool:
    from boolean import ParseError
    from license_expression import ExpressionError, get_spdx_licensing

    licensing = get_spdx_licensing()
    try:
        parsed = licensing.parse(policy["named"].get(name, name))
    except (ExpressionError, ParseError):
        return False
    allowed = {
        symbol: licensing.TRUE if str(symbol) in policy["allowed"] else licensing.FALSE for symbol in parsed.symbols
    }
    return bool(parsed.subs(allowed).simplify() == licensing.TRUE)


if __name__ == "__main__":
    sys.exit(main())
