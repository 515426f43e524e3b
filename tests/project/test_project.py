"""`endcap.open`: each step by a method, from a log to a ranking."""

from __future__ import annotations

from pathlib import Path

import pytest

import endcap
from endcap.client import Client
from endcap.errors import UserError
from endcap.project.artifacts import Verdict
from endcap.store import Store

PUBLIC = ["AsyncClient", "Client", "EndcapError", "Project", "SpecError", "UserError", "__version__", "open"]


def test_the_public_names_are_these_and_no_others() -> None:
    assert endcap.__all__ == PUBLIC
    assert all(getattr(endcap, name) is not None for name in PUBLIC)
    assert endcap.Client is Client
    with pytest.raises(AttributeError):
        endcap.Something  # noqa: B018


def test_each_step_gives_what_the_next_takes_up_to_a_ranking(judged: endcap.Project) -> None:
    package = judged.refit()
    version = judged.register(package)
    deployed = judged.deploy(version)
    assert deployed.state is not None
    assert deployed.state.stable.version == version.number == "1"
    assert [one.version for one in judged.versions()] == ["1"]
    content = judged.features().facts["content"]
    assert judged.versions()[0].tags["dataset_content"] == judged.describe().facts["sessions"]["content"] == content
    assert content in str(judged.features())
    assert content in str(judged.describe())
    first = judged.rank(items=[], k=5)
    again = judged.rank(version="1", items=[], k=5)
    assert first.ids == again.ids
    frame = first.to_pandas()
    assert list(frame["place"]) == [1, 2, 3, 4, 5]
    assert frame["title"].notna().all()
    lists = judged.recommend(publish=False)
    assert not lists.published
    rows = lists.to_arrow()
    assert rows.num_rows == lists.versions[0].facts["customers"]
    experiments = judged.experiments()
    assert judged.evaluate().address.rsplit("/", 1)[-1] in set(experiments["tag.verdict_key"])
    assert (experiments["metric.mrr_at_20"].dropna() > 0).all()


def test_a_result_prints_in_a_terminal_and_in_a_notebook(judged: endcap.Project) -> None:
    verdict = judged.evaluate()
    assert isinstance(verdict, Verdict)
    for shown in (str(verdict), verdict._repr_html_()):
        assert f"{verdict.metrics['challenger']['mrr@20']:.4f}" in shown
        assert "popularity" in shown
    assert verdict.report.read_text(encoding="utf-8").startswith("<!")
    row = verdict.to_arrow().to_pylist()[0]
    assert row["mrr@20_lower"] <= row["mrr@20"] <= row["mrr@20_upper"]


def test_a_second_project_finds_what_the_first_made(judged: endcap.Project, folder: Path) -> None:
    lines: list[str] = []
    again = endcap.open("trial", store=folder, sets=["search=null"], progress=lines.append)
    again.ingest()
    again.features()
    trained = again.train()
    assert trained.address == judged.train().address
    assert not [line for line in lines if "fitting" in line]


def test_a_step_without_its_input_names_the_step_that_makes_it(store: Store) -> None:
    project = endcap.open("trial", store=store.root)
    with pytest.raises(UserError) as error:
        project.train()
    assert error.value.code == "project.input-missing"
    assert error.value.fields == {"input": "dataset", "step": "features"}


def test_wrong_settings_are_named_at_their_keys(project: endcap.Project) -> None:
    with pytest.raises(endcap.SpecError) as error:
        project.replace(model={"name": "vsknn", "sampel": 3}, seed="x")
    assert {problem.key for problem in error.value.problems} == {"model.sampel", "seed"}


def test_documents_make_a_project_as_files_do(project: endcap.Project, folder: Path) -> None:
    documents = {
        "recommender": project.recommender.model_dump(mode="json", exclude_none=True),
        "shop": project.shop.model_dump(mode="json", exclude_none=True),
    }
    opened = endcap.open(documents, store=folder)
    assert opened.recommender == project.recommender
    assert opened.shop == project.shop
    with pytest.raises(endcap.SpecError) as error:
        endcap.open({"recommender": {"seed": "x"}, "shop": {"events": {}}})
    assert {"model", "seed", "events.sources"} <= {problem.key for problem in error.value.problems}


@pytest.mark.slow
def test_a_pipeline_runs_as_the_command_does_and_is_recorded(project: endcap.Project) -> None:
    ran = project.run("features", why="to see it run")
    assert list(ran.results) == ["ingest", "features"]
    assert ran.run.state == "succeeded"
    latest = project.runs()[0]
    assert (latest.name, latest.why, latest.pipeline) == (ran.run.name, "to see it run", "features")
    project.ingest()
    assert project.features().address == ran.results["features"]
    assert project.train().facts["dataset"] == ran.results["features"]


def test_a_step_that_fails_in_a_pipeline_raises_its_own_code(store: Store) -> None:
    shop = {"events": {"sources": [{"path": "nowhere.csv"}], "columns": {"session": "visit"}}}
    documents = {"shop": shop, "recommender": {"model": {"name": "ease"}}}
    project = endcap.open(documents, store=store.root, progress=lambda line: None)
    with pytest.raises(endcap.EndcapError) as error:
        project.run("features")
    assert error.value.fields["step"] == "ingest"
    assert project.runs()[0].state == "failed"
    with pytest.raises(endcap.EndcapError) as alone:
        project.ingest()
    assert alone.value.code == error.value.code
