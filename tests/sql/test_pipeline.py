"""Steps of SQL in a spec, in a package for KFP, in a run on this machine, and in a project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import endcap
from endcap.cli.main import main
from endcap.cli.reachability import check_sources
from endcap.errors import EndcapError, SpecError, UserError
from endcap.runs import list_runs
from endcap.spec.load import dump_specs, load, load_documents
from endcap.spec.step_order import order_steps
from endcap.store import open_store
from endcap_pipelines.package import package
from tests.events.shops import ROWS, write_csv
from tests.pipelines.packages import Json, check_package, steps, tasks
from tests.pipelines.test_own import started as started

SHOP = """
apiVersion: endcap/v2
kind: Shop
name: toys
events:
  sources: [{step: clean}]
  columns: {session: session, item: item, customer: customer, type: type}
"""
RECOMMENDER = """
apiVersion: endcap/v2
kind: Recommender
name: toys
shop: toys
model: {name: popularity}
pipeline:
  steps:
"""
CLEAN = """-- without carts
select session, customer, item, time::timestamptz as time, type, (time::timestamptz)::date as day
from clicks where type <> $left_out
"""
OWN = """
    clean:
      before: ingest
      sql: {file: sql/clean.sql, inputs: {clicks: {path: logs/*.csv}}, parameters: {left_out: cart}}
    again:
      after: clean
      sql: {text: select count(*) as n from clean, inputs: {clean: {step: clean}}}
    weigh:
      after: features
      sql:
        text: >
          select i.item, count(*) as events, any_value(a.n) as n
          from session_events e join dataset_items i on e.item = i.number, again a group by i.item
        inputs: {again: {step: again}}
"""


def write_specs(folder: Path, steps: str = OWN, shop: str = SHOP) -> Path:
    (folder / "shops").mkdir(exist_ok=True)
    (folder / "sql").mkdir(exist_ok=True)
    (folder / "shops" / "toys.yaml").write_text(shop)
    (folder / "sql" / "clean.sql").write_text(CLEAN)
    (folder / "toys.yaml").write_text(RECOMMENDER + steps)
    write_csv(folder / "logs" / "a.csv", ROWS)
    return folder / "toys.yaml"


def problems(folder: Path, steps: str, shop: str = SHOP) -> dict[str, str]:
    with pytest.raises(SpecError) as refused:
        load(write_specs(folder, steps, shop))
    return {problem.key: problem.code for problem in refused.value.problems}


def test_a_file_is_read_with_the_spec_and_paths_start_at_the_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEFT", "clean")
    file = write_specs(tmp_path, OWN.replace("sql/clean.sql", "'sql/${LEFT}.sql'"))
    loaded = load(file)
    sql = loaded.recommender.pipeline.steps["clean"].sql
    assert sql is not None
    assert (sql.text, sql.file) == (CLEAN, "")
    assert sql.inputs["clicks"].path == str(tmp_path / "logs" / "*.csv")
    order = ["clean", "again", "ingest", "features", "weigh", "train", "evaluate", "refit", "register", "deploy"]
    assert order_steps("training", loaded.recommender.pipeline) == order
    assert order_steps("features", loaded.recommender.pipeline) == order[:5]
    documents = dump_specs(loaded)
    assert load_documents(documents["recommender"], documents["shop"]).recommender == loaded.recommender


def test_an_overlay_changes_a_statement_and_switches_steps_off(tmp_path: Path) -> None:
    file = write_specs(tmp_path)
    overlay = tmp_path / "toys" / "overlays" / "dev.yaml"
    overlay.parent.mkdir(parents=True)
    (tmp_path / "sql" / "few.sql").write_text("select * from clicks where type = $left_out")
    overlay.write_text(
        "pipeline: {steps: {clean: {sql: {file: ../../sql/few.sql}}, again: {enabled: false}, weigh: {enabled: false}}}"
    )
    pipeline = load(file, env="dev").recommender.pipeline
    assert order_steps("features", pipeline) == ["clean", "ingest", "features"]
    sql = pipeline.steps["clean"].sql
    assert sql is not None
    assert sql.text == "select * from clicks where type = $left_out"
    overlay.write_text("pipeline: {steps: {again: {enabled: false}}}")
    with pytest.raises(SpecError) as refused:
        load(file, env="dev")
    assert [problem.key for problem in refused.value.problems] == ["pipeline.steps.weigh.sql.inputs.again.step"]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("    clean: {before: ingest, sql: {file: no.sql}}", {"pipeline.steps.clean.sql.file": "not-found"}),
        ("    clean: {before: ingest, sql: {file: sql}}", {"pipeline.steps.clean.sql.file": "unreadable"}),
        ("    clean: {before: ingest, sql: {}}", {"pipeline.steps.clean.sql.text": "missing"}),
        ("    clean: {before: ingest, sql: {text: a, file: b}}", {"pipeline.steps.clean.sql.file": "conflict"}),
        ("    clean: {sql: {text: a}}", {"pipeline.steps.clean.after": "missing"}),
        ("    clean: {before: features, sql: {text: a}}", {"pipeline.steps.clean.before": "not-allowed"}),
        (
            "    clean: {before: ingest, after: train, sql: {text: a}}",
            {"pipeline.steps.clean.before": "conflict"},
        ),
        (
            "    clean: {before: ingest, function: 'a:b', sql: {text: a}}",
            {"pipeline.steps.clean.function": "conflict"},
        ),
        ("    clean: {before: ingest, sql: {text: a, engine: trino}}",
         {"pipeline.steps.clean.sql.engine": "not-allowed"}),
        (
            "    clean: {before: ingest, sql: {text: a, engine: bigquery, inputs: {x: {path: a}}}}",
            {"pipeline.steps.clean.sql.inputs": "not-allowed"},
        ),
        (
            "    clean: {before: ingest, sql: {text: a, bigquery: {table: a.b}}}",
            {
                "pipeline.steps.clean.sql.bigquery": "conflict",
                "pipeline.steps.clean.sql.bigquery.results": "missing",
            },
        ),
        ("    clean: {after: ingest, sql: {text: a}}", {"pipeline.steps": "unknown-name"}),
        ("    other: {before: ingest, sql: {text: a}}", {"pipeline.steps": "unknown-name"}),
        ("    clean: {before: ingest, enabled: false, sql: {text: a}}", {"pipeline.steps": "unknown-name"}),
        (
            "    clean: {before: ingest, sql: {text: a, inputs: {x: {step: b}, Y: {path: a}, z: {path: a, decimal: ','}}}}",  # noqa: E501
            {
                "pipeline.steps.clean.sql.inputs.x.step": "unknown-name",
                "pipeline.steps.clean.sql.inputs.Y": "not-allowed",
                "pipeline.steps.clean.sql.inputs.z.decimal": "not-allowed",
            },
        ),
        (
            "    clean: {before: ingest, sql: {text: a, parameters: {logical_date: x}}}",
            {"pipeline.steps.clean.sql.parameters.logical_date": "duplicate"},
        ),
        ("    ingest: {before: ingest, sql: {text: a}}\n    clean: {before: ingest, sql: {text: a}}",
         {"pipeline.steps.ingest.before": "not-allowed", "pipeline.steps.ingest.sql": "not-allowed"}),
    ],
)  # fmt: skip
def test_a_step_that_cannot_be_is_refused_with_its_key(tmp_path: Path, steps: str, expected: dict[str, str]) -> None:
    found = problems(tmp_path, f"{steps}\n")
    assert expected.items() <= found.items(), found


def test_item_tables_and_blacklists_are_no_steps(tmp_path: Path) -> None:
    shop = f"{SHOP}items: {{sources: [{{step: clean}}]}}\nrules: {{blacklist: {{sources: [{{step: clean}}]}}}}\n"
    assert problems(tmp_path, OWN, shop) == {
        "items.sources[0].step": "not-allowed",
        "rules.blacklist.sources[0].step": "not-allowed",
    }
    both = SHOP.replace("{step: clean}", "{step: clean, path: x}")
    assert problems(tmp_path, OWN, both) == {"events.sources[0].step": "conflict"}


def test_a_package_hands_each_table_to_the_step_that_reads_it(tmp_path: Path) -> None:
    compiled = check_package(package("training", load(write_specs(tmp_path))))
    assert {"clean", "again", "weigh"} < set(steps(compiled))
    made = tasks(compiled)
    assert "dependentTasks" not in made["clean"]
    assert made["again"]["dependentTasks"] == ["clean"]
    assert {"clean", "again"} <= set(made["ingest"]["dependentTasks"])
    inputs = {name: made[name]["inputs"]["parameters"] for name in ("clean", "weigh", "ingest")}
    assert inputs["clean"]["settings"]["runtimeValue"]["constant"]["text"] == CLEAN
    assert inputs["weigh"]["dataset"]["taskOutputParameter"]["producerTask"] == "features"
    assert set(inputs["weigh"]["tables"]["runtimeValue"]["constant"]) == {"again"}
    assert set(inputs["ingest"]["tables"]["runtimeValue"]["constant"]) == {"clean", "again"}
    with pytest.raises(SpecError) as refused:
        check_sources(load(tmp_path / "toys.yaml"))
    assert [problem.key for problem in refused.value.problems] == ["pipeline.steps.clean.sql.inputs.clicks.path"]


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("mine: {before: ingest, sql: {text: select * frm events}}", "sql.syntax"),
        ("mine: {before: ingest, sql: {text: select * from events}}", "sql.unknown-table"),
        ("mine: {after: ingest, sql: {text: select * from sessions}}", "sql.unknown-table"),
        ("mine: {after: ingest, sql: {text: select $a from events}}", "sql.parameter-unknown"),
        ("mine: {after: ingest, sql: {text: select 1 from events, parameters: {a: 1}}}", "sql.unused"),
    ],
)
def test_a_mistake_in_a_statement_is_seen_when_the_package_is_made(tmp_path: Path, step: str, code: str) -> None:
    loaded = load(write_specs(tmp_path, f"{OWN}    {step}\n"))
    with pytest.raises(UserError) as refused:
        package("features", loaded)
    assert refused.value.code == code


def test_a_function_gets_the_tables_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_tables.py").write_text("def look(tables, first=1):\n    return ''\n")
    monkeypatch.chdir(tmp_path)
    places = {"look": "after: ingest", "early": "before: ingest"}
    own = "".join(f"    {name}: {{{place}, function: 'my_tables:look'}}\n" for name, place in places.items())
    compiled = check_package(package("features", load(write_specs(tmp_path, OWN + own))))
    inputs = {name: tasks(compiled)[name]["inputs"]["parameters"]["tables"] for name in places}
    assert [set(tables["runtimeValue"]["constant"]) for tables in inputs.values()] == [{"clean", "again"}] * 2


@pytest.mark.slow
def test_here_steps_of_sql_run_and_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], started: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(write_specs(tmp_path))
    run = ["run", file, "--pipeline", "features", "--store", "store"]
    main(run)
    lines = [line.split() for line in capfd.readouterr().out.splitlines() if line.startswith("  ✓")]
    assert [line[1] for line in lines] == ["clean", "again", "ingest", "features", "weigh"]
    assert lines[0][4:6] == ["3", "rows"]
    store = open_store("store")
    (first,) = list_runs(store)
    facts = store.manifest(first.steps[2].result)["facts"]
    assert facts["events"] == 3
    assert "/tables/toys/" in facts["sources"][0]["path"]
    assert first.how == "command line"
    main(run)
    again = list_runs(store)[0]
    assert [(step.name, step.reused) for step in again.steps] == [
        (name, True) for name in ("clean", "again", "ingest", "features", "weigh")
    ]
    assert started == ["sql", "sql", "ingest", "features", "sql", "report", "report"]

    capfd.readouterr()
    with pytest.raises(SystemExit):
        main([*run, "--set", "pipeline.steps.clean.sql.text=select x from clicks where type <> $left_out",
              "--set", "pipeline.steps.clean.sql.file=null"])  # fmt: skip
    assert "[sql.unknown-column]" in capfd.readouterr().err


def test_a_project_runs_what_a_source_needs(tmp_path: Path) -> None:
    lines: list[str] = []
    project = endcap.open(str(write_specs(tmp_path)), store=tmp_path / "store", progress=lines.append)
    snapshot = project.ingest()
    assert snapshot.facts["events"] == 3
    table = project.sql("clean")
    assert table.to_arrow().column("item").to_pylist() == ["i1", "i2", "i3"]
    assert "3 rows" in table.summary
    project.features()
    assert project.sql("weigh").to_pandas()["item"].tolist() == ["i1", "i2"]
    with pytest.raises(EndcapError) as unknown:
        project.sql("nothing")
    assert unknown.value.code == "project.sql-step-unknown"
    alone = endcap.Project(project.store, shop=project.shop)
    with pytest.raises(EndcapError) as lacking:
        alone.ingest()
    assert lacking.value.code == "sql.table-not-made"


def test_numbers_that_went_through_kfp_make_the_same_table(tmp_path: Path) -> None:
    text = "select item from clicks where length(item) = $size"
    inputs: dict[str, Any] = {"clicks": {"path": str(write_csv(tmp_path / "a.csv", ROWS))}}
    store = endcap.open(str(write_specs(tmp_path)), store=tmp_path / "store").store
    from endcap.spec.sql_step import SqlSpec
    from tests.sql.shops import run

    documents: list[Json] = [{"text": text, "inputs": inputs, "parameters": {"size": size}} for size in (2, 2.0)]
    assert len({run(store, SqlSpec.model_validate(document)) for document in documents}) == 1
