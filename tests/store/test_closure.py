"""What a closure of code reaches, on packages of a few lines."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from endcap.store import code
from endcap.store.code import fingerprint_code
from endcap.store.code_closure import CodeClosure, ModuleSource, find_closure

Files = dict[str, str]
STEP = {
    "endcap": "",
    "endcap.step": """
        from endcap.parts import total
        def step(rows): return total(rows)
        def other(rows): return len(rows)
    """,
    "endcap.parts": """
        SCALE = 2
        def total(rows): return SCALE * sum(rows)
        def unused(rows): return 0
    """,
}


def reached(files: Files, entry: str = "endcap.step:step", cut: tuple[str, ...] = ()) -> CodeClosure:
    def read(name: str) -> ModuleSource | None:
        package = any(other.startswith(f"{name}.") for other in files)
        return ModuleSource(dedent(files[name]).encode(), package) if name in files else None

    return find_closure([entry], read, cut)


def digest(files: Files) -> str:
    return reached(files).digest()


def with_step(text: str, **others: str) -> Files:
    return STEP | {"endcap.step": text} | {f"endcap.{name.replace('_', '.')}": other for name, other in others.items()}


def test_definitions_count_that_are_named_and_no_others() -> None:
    assert set(reached(STEP).definitions) == {
        ("endcap.step", "step"),
        ("endcap.parts", "total"),
        ("endcap.parts", "SCALE"),
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SCALE = 2", "SCALE = 3"),
        ("SCALE = 2", "SCALE = 2\nimport os\nos.environ['OMP_NUM_THREADS'] = '1'"),
        ("SCALE = 2", "SCALE = 2\nSCALE += 1"),
        ("sum(rows)", "sum(set(rows))"),
        ("def total", "@cached\ndef total"),
        ("def total(rows)", "def total(rows, start=0)"),
    ],
)
def test_a_change_that_alters_a_result_changes_the_digest(old: str, new: str) -> None:
    text = dedent(STEP["endcap.parts"])
    assert old in text
    assert digest(STEP | {"endcap.parts": text.replace(old, new)}) != digest(STEP)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SCALE = 2", "SCALE = 2  # twice"),
        ("def total(rows):", "def total(rows: list[int]) -> int:"),
        ("def total(rows):", "def total(rows):\n    'Twice the sum.'\n   "),
        ("SCALE * sum(rows)", "(SCALE\n    * sum(rows))"),
        ("def unused(rows): return 0", "def unused(rows): return 1"),
        ("SCALE = 2", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from endcap.far import Far\nSCALE = 2"),
    ],
)
def test_a_change_that_alters_no_result_keeps_the_digest(old: str, new: str) -> None:
    text = dedent(STEP["endcap.parts"])
    assert old in text
    assert digest(STEP | {"endcap.parts": text.replace(old, new)}) == digest(STEP)


def test_words_of_our_own_errors_do_not_count() -> None:
    text = "from endcap.errors import DataError\ndef step(rows):\n    if not rows: raise DataError({})\n    return rows"
    assert digest(with_step(text.format("'no rows'"))) == digest(with_step(text.format("f'{rows}: none', code='a.b'")))
    foreign = text.replace("endcap.errors", "elsewhere")
    assert digest(with_step(foreign.format("'no rows'"))) != digest(with_step(foreign.format("'none'")))


@pytest.mark.parametrize(
    "step",
    [
        "def step():\n    from endcap.far import far\n    return far()",
        "def step():\n    import endcap.far\n    return endcap.far.far()",
        "def step():\n    from . import far\n    return far.far()",
        "from .far import far as near\ndef step(): return near()",
        "from endcap import far\ndef step(): return far.far()",
        "import endcap.far as there\ndef step(): return there.far()",
        "from endcap.room import far\ndef step(): return far()",
        "from endcap import room\ndef step(): return room.far()",
        "import importlib\ndef step(): return importlib.import_module('endcap.far').far()",
        "CHILD = 'endcap.far'\ndef step(): return run(['python', '-m', CHILD])",
        "PLACES = {'far': ('endcap.far', 'far')}\ndef step(name): return made(*PLACES[name])",
        "try:\n    from endcap.far import far\nexcept ImportError:\n    far = None\ndef step(): return far()",
        "from endcap.far import *\ndef step(): return 1\nstep = far(step)",
        "from endcap.lazy import far\ndef step(): return far()",
        "class Step:\n    def run(self):\n        from endcap.far import far\n        return far()\nstep = Step",
        "from endcap.far import far\ndef step(given: far): return given.run()",
    ],
)
def test_ways_to_a_definition(step: str) -> None:
    files = with_step(
        step,
        far="def far(): return 1\ndef farther(): return 2",
        room="from endcap.far import far\nfrom endcap.heavy import heavy",
        room_inner="",
        heavy="def heavy(): return 3",
        lazy="def __getattr__(name):\n    from endcap.far import far\n    return far",
    )
    found = reached(files)
    assert ("endcap.far", "far") in found.definitions
    assert "endcap.heavy" not in found.modules, "a package counts by what is imported from it"
    changed = files | {"endcap.far": "def far(): return 9\ndef farther(): return 2"}
    assert reached(changed).digest() != found.digest()


def test_a_name_that_comes_to_stand_for_another_definition_changes_the_digest() -> None:
    files = with_step(
        "from endcap.a import mean\nfrom endcap.b import user\ndef step(): return mean(), user()",
        a="def mean(): return 1",
        b="from endcap.c import mean\ndef user(): return mean()",
        c="def mean(): return 2",
    )
    both = files["endcap.step"].replace("step():", "step(a='endcap.a', c='endcap.c'):")
    swapped = both.replace("endcap.a import", "endcap.c import")
    assert digest(files | {"endcap.step": both}) != digest(files | {"endcap.step": swapped})


def test_a_cut_ends_the_closure_at_a_room_or_a_definition() -> None:
    assert reached(STEP, cut=("endcap.parts",)).modules == {"endcap.step"}
    assert ("endcap.parts", "SCALE") not in reached(STEP, cut=("endcap.parts:total",)).definitions


def test_a_users_modules_come_whole_with_those_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "acme_shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "markov.py").write_text("import numpy, acme_tools\nfrom acme_shop import sums\nclass Markov: pass")
    (package / "sums.py").write_text("A = 1\nREGISTRY = {}")
    (package / "plots.py").write_text("B = 1")
    (tmp_path / "acme_tools.py").write_text("C = 1")

    def key() -> str:
        fingerprint_code.cache_clear()
        return fingerprint_code("acme_shop.markov")

    first = key()
    for file, counts in (("sums.py", True), ("../acme_tools.py", True), ("__init__.py", True), ("plots.py", False)):
        before = (package / file).read_text()
        (package / file).write_text(f"{before}\nREGISTRY = 2")
        assert (key() != first) is counts, file
        (package / file).write_text(before)
    assert key() == first
    monkeypatch.setattr(code, "version", lambda name: {"numpy": "1.9.4"}[name])
    old = key()
    assert old != first
    monkeypatch.setattr(code, "version", lambda name: {"numpy": "1.9.5"}[name])
    assert key() == old, "major.minor count"


def test_an_entry_without_source_is_refused() -> None:
    with pytest.raises(ModuleNotFoundError):
        fingerprint_code("no_such_module_here")


def test_cached_parts_equal_those_of_parsing_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDCAP_CACHE", str(tmp_path))
    digests = []
    for _ in range(3):
        code._parse_cached.cache_clear()
        fingerprint_code.cache_clear()
        digests.append(fingerprint_code("endcap.features.dataset:build"))
        files = sorted((tmp_path / "code").iterdir())
        assert files
        if len(digests) == 2:
            files[0].write_text("half a docum")
    assert len(set(digests)) == 1
