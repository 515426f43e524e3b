"""A step's key changes with the code that makes its output, and with no other."""

from __future__ import annotations

import ast
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import endcap
from endcap.batch import ListRequest, recommend
from endcap.evaluation import judge
from endcap.events import ingest
from endcap.features.dataset import build
from endcap.registry.recipe import Recipe
from endcap.spec.sql_step import SqlSpec
from endcap.sql import run_sql
from endcap.steps import RECIPE, SQL, STEPS
from endcap.store import Store
from endcap.store.code import EXCLUDED_CODE, read_installed_source
from endcap.store.code_closure import CodeClosure, ModuleSource, find_closure
from endcap.training import refit, train
from endcap.training.recipes import fit_recipe
from tests.batch.given import FakeRegistry
from tests.events.shops import make_shop, write_csv
from tests.features.logs import event, recommender, shop, snapshot

ENTRIES = {name: step.entry for name, step in STEPS.items() if step.entry} | {"recipe": RECIPE, "sql": SQL.entry}
NETWORKS = [
    "endcap.models.gru4rec:GRU4Rec",
    "endcap.neural.gru_step:GRUStep",
    "endcap.neural.attention_blocks:AttentionBlocks",
]
"""What a model that is loaded by name is made of."""
MAKES = {
    "ingest": [
        "endcap.events.event_mapping:list_event_columns",
        "endcap.sources.utf8:Utf8Stream",
        "endcap.sources.digest:digest_rows",
        "endcap.spec.source:SourceSpec",
    ],
    "sql": [
        "endcap.sql.result_table:_order_query",
        "endcap.sql.input_sources:_drop_empty",
        "endcap.sql.bigquery_engine:_convert",
        "endcap.sources.formats.read_csv:read_csv",
    ],
    "features": [
        "endcap.features.daily.coding:code_day",
        "endcap.features.daily.day_rows:read_day_rows",
        "endcap.features.daily.filtering:DayFilter",
        "endcap.features.event_features:ARRAYS",
    ],
    "train": [
        "endcap.features.split:find_boundaries",
        "endcap.features.view:open_view",
        "endcap.models.conditional_logit:fit_conditional_logit",
        "endcap.models.score_features:ScoreFeatures",
        "endcap.models.vsknn:VSKNN",
        "endcap.spec.model:VSKNNSpec",
        "endcap.spec.tunable:list_domains",
        "endcap.training.search.tuning:_Searcher",
        "endcap.training.search.trial:run",
        "endcap.training.distributed.worker:_Worker",
    ],
    "evaluate": [
        "endcap.evaluation.bootstrap:Bootstrap",
        "endcap.evaluation.metrics:compute_metrics",
        "endcap.features.split:find_boundaries",
        "endcap.models.ease:EASE",
        "endcap.rules.rulebook:Rulebook",
    ],
    "refit": [
        "endcap.features.dataset_files:read_refit_sessions",
        "endcap.ranking.ranker:Ranker",
        "endcap.registry.package:write_package",
        "endcap.training.distributed.worker:_Worker",
    ],
    "recipe": [
        "endcap.features.view:open_view",
        "endcap.models.ease:EASE",
        "endcap.training.distributed.worker:_Worker",
    ],
    "recommend": [
        "endcap.features.split:where",
        "endcap.batch.driving:drive",
        "endcap.batch.lists:ListRanker",
        "endcap.batch.part_ranking:rank_part_in_worker",
        "endcap.rules.rulebook:Rulebook",
        "endcap.models.popularity:Popularity",
    ],
}
"""Definitions that a step's output is computed with, in the step itself and in its child processes."""
for fits in ("train", "evaluate", "refit", "recipe", "recommend"):
    MAKES[fits] += NETWORKS
ELSEWHERE = [
    "endcap.cluster.client:Cluster",
    "endcap.deploy.manifests:render_inference_service",
    "endcap.errors:DataError",
    "endcap.online.sqlite:SQLiteStore",
    "endcap.spec.pod:Pod",
    "endcap.spec.recommender:Recommender",
    "endcap.store.s3:S3Store",
]
"""Definitions that no step's output is computed with."""
LEAVES = {
    "ingest": [
        "endcap.simulation.simulate:simulate",
        "endcap.features.window:select_window",
        "endcap.models.ease:EASE",
    ],
    "features": [
        "endcap.events.event_mapping:list_event_columns",
        "endcap.features.split:where",
        "endcap.features.view:open_view",
    ],
    "train": [
        "endcap.evaluation.metrics:compute_metrics",
        "endcap.features.dataset:build",
        "endcap.ranking.ranker:Ranker",
        "endcap.registry.verdict_log:log_verdict",
        "endcap.registry.training_log:TrainingLog",
        "endcap.training.recipes:fit_champion",
        "endcap.training.refit:refit",
        "endcap.training.train:describe",
    ],
    "evaluate": [
        "endcap.batch.lists:ListRanker",
        "endcap.ranking.ranker:Ranker",
        RECIPE,
        "endcap.training.train:train",
    ],
    "refit": [
        "endcap.batch.lists:ListRanker",
        "endcap.evaluation.judge:judge",
        "endcap.training.search.tuning:_Searcher",
    ],
    "recipe": ["endcap.evaluation.judge:judge", "endcap.ranking.ranker:Ranker", "endcap.training.train:train"],
    "recommend": [
        "endcap.batch.publication:publish_lists",
        "endcap.evaluation.judge:judge",
        "endcap.features.split:find_boundaries",
        "endcap.ranking.ranker:Ranker",
        "endcap.training.search.tuning:_Searcher",
    ],
}
"""Definitions that others use, and the step does not."""
STARTS = {
    "endcap.batch.driving": "what it runs elsewhere is a definition that it names",
    "endcap.models.catalogue": "models, by names that stand in the module",
    "endcap.spec.custom": "classes of a user's own, by `find_own_modules`",
    "endcap.ray_driver.child": "the driver that a `Driver` names",
    "endcap.ray_driver.process": "child, and the driver that a `Driver` names",
}
"""Modules of steps that import by a name that is made while they run, or start processes, and how a key sees what."""
STARTERS = ("import_module", "__import__", "Popen", "run_module", "run_path", "ProcessPoolExecutor", "remote", "exec")


@functools.cache
def of(step: str, change: str = "") -> CodeClosure:
    """What a step's entry reaches, where a definition is another."""
    module, _, name = change.partition(":")

    def read(at: str) -> ModuleSource | None:
        source = read_installed_source(at)
        return (
            ModuleSource(changed(source.text, name), source.package) if source is not None and at == module else source
        )

    return find_closure([ENTRIES[step]], read, EXCLUDED_CODE)


def changed(text: bytes, name: str) -> bytes:
    """A module's text with one definition changed."""
    tree = ast.parse(text)
    (statement,) = [one for one in tree.body if name in bound(one)]
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        statement.body.append(ast.parse("changed = True").body[0])
    else:
        statement.value = ast.parse("changed(True)", mode="eval").body  # type: ignore[attr-defined]
    return ast.unparse(tree).encode()


def bound(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    return [target.id for target in targets if isinstance(target, ast.Name)]


@pytest.mark.parametrize(("step", "change"), [(step, change) for step, every in MAKES.items() for change in every])
def test_a_steps_key_changes_with_what_makes_its_output(step: str, change: str) -> None:
    assert of(step, change).digest() != of(step).digest()


@pytest.mark.parametrize(
    ("step", "change"), [(step, change) for step, every in LEAVES.items() for change in (*every, *ELSEWHERE)]
)
def test_a_steps_key_stays_where_others_change(step: str, change: str) -> None:
    assert of(step, change).digest() == of(step).digest()


def test_every_cut_is_of_code_that_is_there() -> None:
    for cut in EXCLUDED_CODE:
        module, _, name = cut.partition(":")
        source = read_installed_source(module)
        assert source is not None, cut
        assert not name or any(name in part.binds for part in source.module.parts), cut


def test_no_step_starts_what_its_key_does_not_see() -> None:
    starting = set()
    for module in set.union(*(of(step).modules for step in ENTRIES)):
        source = read_installed_source(module)
        assert source is not None
        uses = {use.rpartition(".")[2] for part in source.module.parts for use in part.uses}
        if uses & set(STARTERS):
            starting.add(module)
    assert starting == set(STARTS), "declare what it starts: name the module in a text, as in a `Driver`"
    for step, driver in (
        ("train", "endcap.training.search.tuning:drive"),
        ("train", "endcap.training.distributed.driving:drive"),
        ("refit", "endcap.training.distributed.driving:drive"),
        ("recommend", "endcap.batch.driving:drive"),
    ):
        for entry in (driver, "endcap.ray_driver.child:main"):
            assert tuple(entry.split(":")) in of(step).definitions


@pytest.mark.slow
def test_all_that_a_step_runs_is_in_its_key(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    registered = FakeRegistry()
    for place in ("endcap.evaluation.judge", "endcap.batch.served_versions"):
        monkeypatch.setattr(sys.modules[place], "open_registry", lambda uri, store: registered)
    monkeypatch.setattr(sys.modules["endcap.evaluation.judge"], "log_verdict", lambda *arguments, **named: "run")
    words = ["abcab", "cdeac", "xyzxy", "yxwz", "abz"] * 6
    rows = [
        event(f"s{number}", item, 100_000 * number + 1000 * step, f"c{number % 7}")
        for number, word in enumerate(words)
        for step, item in enumerate(word)
    ]
    rows = [{**row, "type": "buy" if row["item"] == "b" else "view"} for row in rows]
    (tmp_path / "black.csv").write_text("item\nz\n")
    columns = {"session": "session", "customer": "customer", "type": "type"}
    its = shop(
        events={"sources": [{"path": "events.csv"}], "columns": columns},
        rules={"blacklist": {"sources": [{"path": str(tmp_path / "black.csv")}]}, "owned": {"types": ["buy"]}},
    )
    neural = {"width": 8, "max_epochs": 1}
    members = {"gru4rec": {"name": "gru4rec", **neural}, "vsknn": {"name": "vsknn"}, "ease": {"name": "ease"}}
    spec = recommender(
        model={"name": "blend", "members": members},
        baselines=[{"name": "popularity"}, {"name": "sasrec", **neural}, {"name": "item-knn"}],
        split={"by": "time", "test": 0.2, "validation": 0.2},
        gate=[],
        batch={"k": 3},
    )
    log = write_csv(tmp_path / "log.csv", ["s1,c1,i1,2024-03-01T10:00:00Z,view", "s1,c1,i2,never,view"])
    sql = SqlSpec.model_validate({"text": "select item from log", "inputs": {"log": {"path": str(log)}}})
    ran = {"sql": traced(lambda: run_sql("clean", sql, "test", store))[1]}
    ran |= {"ingest": traced(lambda: ingest(make_shop(log, events={"max_bad_share": 0.9}), store))[1]}
    laid = snapshot(store, rows)
    dataset, ran["features"] = traced(lambda: build(its, laid, store))
    trained, ran["train"] = traced(lambda: train(spec, dataset, store))
    verdict, ran["evaluate"] = traced(lambda: judge(spec, dataset, trained, store, shop=its))
    package, ran["refit"] = traced(lambda: refit(spec, dataset, trained, verdict, store))
    registered.versions["1"] = package
    recipe = Recipe.of(package, spec, store)
    made, ran["recipe"] = traced(lambda: fit_recipe(recipe, "1", dataset, store, "key", tmp_path, print))
    assert made is not None
    _, ran["recommend"] = traced(lambda: recommend(spec, its, store, request=ListRequest(dataset=dataset)))
    for step, definitions in ran.items():
        assert len(definitions) > 20, step
        unseen = {one for one in definitions if one not in of(step).definitions}
        assert not unseen, step


def traced(run: Callable[[], Any]) -> tuple[Any, set[tuple[str, str]]]:
    """What a run gives, and the definitions of Endcap that it ran, but for what was called by code that is cut."""
    home = str(Path(endcap.__file__).parent)
    ran: set[tuple[str, str]] = set()
    codes: set[CodeType] = set()

    def profile(frame: FrameType, what: str, argument: Any) -> None:
        code = frame.f_code
        if what != "call" or code in codes or not code.co_filename.startswith(home):
            return
        name = code.co_qualname.partition(".")[0]
        if name.startswith("<"):  # a module's own import, and functions without a name
            codes.add(code)
        elif not any(is_cut(above) for above in stack(frame)):
            codes.add(code)
            ran.add((frame.f_globals["__name__"], name))

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        result = run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return result, ran


def stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def is_cut(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    names = module.split(".")
    above = {".".join(names[:count]) for count in range(1, len(names) + 1)}
    if not above.isdisjoint(EXCLUDED_CODE) or f"{module}:{frame.f_code.co_qualname.partition('.')[0]}" in EXCLUDED_CODE:
        return True
    # Pydantic's own frame, which calls a spec's checks.
    kind = frame.f_locals.get("cls") if names[0] == "pydantic" else None
    return isinstance(kind, type) and f"{kind.__module__}:{kind.__qualname__}" in EXCLUDED_CODE
