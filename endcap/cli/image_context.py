"""The build context of a user's own image: their code and packages on top of Endcap's image.

In the image the user's modules are in /opt/endcap-user. The user's packages are beside Endcap's own, whose versions do
not change: one lock file determines both images.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from endcap.errors import UserError
from endcap.safe_reading import read_bytes

_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "node_modules", "venv")
_TAKEN = """\
import importlib.util, sys
taken = [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
sys.exit(f"in Endcap's image these names are taken: {', '.join(taken)}; rename your modules" if taken else 0)
"""


def write_context(folder: Path, base: str, code: Sequence[Path], requirements: Path | None) -> str:
    """Write the build context into an empty folder.

    Parameters
    ----------
    folder
        The empty folder.
    base
        The image to build on.
    code
        Packages (folders with `__init__.py`), modules (`.py` files), or folders of both.
    requirements
        A file with more packages, as pip reads it.

    Returns
    -------
    str
        The Dockerfile's text.

    Raises
    ------
    UserError
        A path has no modules, two modules have one name, or the requirements name other files.
    """
    modules: dict[str, Path] = {}
    for path in code:
        for module in _list_modules(path):
            if modules.setdefault(module.stem, module) != module:
                raise UserError(
                    f"--code: {modules[module.stem]} and {module} have the same name; rename one of them",
                    code="cli.module-twice",
                    modules=[str(modules[module.stem]), str(module)],
                )
    (folder / "code").mkdir()
    for module in modules.values():
        if module.is_dir():
            shutil.copytree(module, folder / "code" / module.name, ignore=_LEFT_OUT)
        else:
            shutil.copy(module, folder / "code")
    if requirements is not None:
        (folder / "requirements.txt").write_text(_read_requirements(requirements))
    text = render_dockerfile(base, sorted(modules), packages=requirements is not None)
    (folder / "Dockerfile").write_text(text)
    return text


def render_dockerfile(base: str, modules: Sequence[str], *, packages: bool) -> str:
    """Make the Dockerfile's text. modules: the names that the image must not have yet, and can import afterwards."""
    lines = ["# Written by `endcap image`.", f"FROM {base}", "USER 0:0"]
    if packages:
        lines += [
            "COPY requirements.txt /opt/endcap/user-requirements.txt",
            "RUN python -m pip install --no-cache-dir --disable-pip-version-check --quiet \\",
            "      --constraint /opt/endcap/constraints.txt --requirement /opt/endcap/user-requirements.txt \\",
            "    && python -m pip check",
        ]
    if modules:
        # Isolated, python finds what the image has without the user's modules.
        check = ["python", "-I", "-c", _TAKEN, *modules]
        lines += [
            f"RUN {json.dumps(check)}",
            "COPY code/ /opt/endcap-user/",
            "RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/endcap-user",
        ]
    return "\n".join([*lines, "USER 10001:10001", f"LABEL org.opencontainers.image.base.name={json.dumps(base)}", ""])


def _list_modules(path: Path) -> list[Path]:
    """List the packages and modules that a path names or holds."""
    path = path.resolve()
    if path.is_file() or (path / "__init__.py").is_file():
        modules = [path]
    else:
        inside = sorted(path.iterdir())
        modules = [module for module in inside if module.suffix == ".py" or (module / "__init__.py").is_file()]
    if not modules:
        raise UserError(
            f"--code {path}: found no modules; allowed: a package, a .py file, or a folder of these",
            code="cli.no-modules",
            path=str(path),
        )
    for module in modules:
        if not module.stem.isidentifier() or module.suffix not in ("", ".py"):
            raise UserError(
                f"--code {module}: found a name that cannot be imported; allowed: a package or a .py file",
                code="cli.module-name",
                path=str(module),
            )
    return modules


def _read_requirements(file: Path) -> str:
    """Read the file. Raises UserError if it names other files, which the engine would not find."""
    try:
        text = read_bytes(file).decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{file} cannot be read: {reason}", code="cli.requirements-unreadable", file=str(file), reason=reason
        ) from None
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*(-r|--requirement|-c|--constraint|-e|--editable|\.{0,2}/|file:)", line):
            raise UserError(
                f"{file}, line {number}: found {line.strip()!r}; allowed: packages by name, and options such as "
                "--index-url. Copy the lines of other files into this one, and give your own code by --code",
                code="cli.requirement-not-a-package",
                file=str(file),
                line=number,
                found=line.strip(),
            )
    return text
