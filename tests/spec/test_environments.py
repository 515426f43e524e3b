"""Where things are: which of the option, the variable, the file and the default counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.errors import NotFoundError, Problem, SpecError
from endcap.spec.environments import find_file, resolve
from endcap.spec.load import load
from endcap.spec.spec_files import ENVIRONMENTS as FILE
from tests.spec.test_load import specs, write

__all__ = ["specs"]

ENVIRONMENTS = """\
apiVersion: endcap/v2
kind: Environments
environments:
  default: {store: here}
  prod:
    store: s3://${BUCKET:-shop}/store
    registry: http://mlflow:5000
    online: redis://:${REDIS_PASSWORD}@redis:6379
    kfp: {host: http://kfp, namespace: kubeflow, context: east}
    serving: {namespace: shop, context: west}
"""


@pytest.fixture
def file(specs: Path) -> Path:
    return write(specs / FILE, ENVIRONMENTS)


def problems(spec: Path, text: str) -> list[Problem]:
    write(spec.parent / FILE, f"apiVersion: endcap/v2\nkind: Environments\n{text}")
    with pytest.raises(SpecError) as raised:
        resolve(spec, "prod", variables={})
    return raised.value.problems


def test_what_is_given_wins_over_variables_and_those_over_the_file(specs: Path, file: Path) -> None:
    variables = {"ENDCAP_STORE": "/variable", "ENDCAP_REGISTRY": "sqlite:///variable.db", "REDIS_PASSWORD": "s"}
    places = resolve(specs / "home.yaml", "prod", {"store": "/given", "registry": None}, variables=variables)
    assert (places.store, places.registry, places.kfp_host) == ("/given", "sqlite:///variable.db", "http://kfp")
    assert (places.kfp_namespace, places.kfp_context) == ("kubeflow", "east")
    assert (places.serving_namespace, places.serving_context) == ("shop", "west")
    assert [places.origins[name] for name in ("store", "registry")] == ["given", "ENDCAP_REGISTRY"]
    assert places.origins["kfp_host"].endswith(f"{FILE}:9")
    assert (places.env, places.file) == ("prod", file)


def test_an_empty_value_is_given_and_an_empty_variable_is_not_set(specs: Path, file: Path) -> None:
    given = {"serving_namespace": ""}
    places = resolve(specs / "home.yaml", "prod", given, variables={"ENDCAP_STORE": "", "REDIS_PASSWORD": "s"})
    assert places.serving_namespace == ""
    assert places.store == "s3://shop/store"


def test_the_default_environment_counts_where_none_is_chosen_and_folders_count_from_the_file(
    specs: Path, file: Path
) -> None:
    places = resolve(specs / "home.yaml", variables={})
    assert (places.env, places.store) == ("default", str(specs / "here"))
    assert (places.registry, places.online, places.kfp_host) == ("", "", None)
    assert places.origins["registry"] == "default"


def test_without_a_file_or_in_an_environment_of_overlays_alone_the_defaults_stand(specs: Path) -> None:
    assert resolve(specs / "home.yaml", variables={}).store == ".endcap/store"
    write(specs / FILE, ENVIRONMENTS)
    places = resolve(specs / "home.yaml", "gpu", variables={})
    assert (places.env, places.store) == (None, ".endcap/store")


def test_passwords_come_from_variables_and_are_never_shown(specs: Path, file: Path) -> None:
    places = resolve(specs / "home.yaml", "prod", variables={"REDIS_PASSWORD": "hunter2", "BUCKET": "other"})
    assert (places.online, places.store) == ("redis://:hunter2@redis:6379", "s3://other/store")
    assert "hunter2" not in repr(places) + str(places.list_values())
    with pytest.raises(SpecError) as raised:
        resolve(specs / "home.yaml", "prod", variables={})
    assert [problem.key for problem in raised.value.problems] == ["environments.prod.online"]


@pytest.mark.parametrize(
    "secret",
    [
        "online: redis://:hunter2@redis:6379",
        "registry: 'postgresql://me:${PASSWORD:-hunter2}@host/db'",
        "kfp: {host: 'https://kfp/?token=hunter2'}",
        "store: s3://AKIAABCDEFGHIJKLMNOP/hunter2",
        "kfp: {host: eyJhbGciOiJIUzI1.hunter2.abc}",
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(specs: Path, secret: str) -> None:
    (problem,) = problems(specs / "home.yaml", f"environments: {{other: {{{secret}}}}}")
    assert problem.key.startswith("environments.other.")
    assert "hunter2" not in str(problem)


def test_every_mistake_is_reported_at_once_with_its_key(specs: Path) -> None:
    text = "environments:\n  prod: {stor: x, registry: 5, kfp: {token: hunter2}}\n  Bad Name: {}\nextends: x.yaml\n"
    found = {problem.key: problem for problem in problems(specs / "home.yaml", text)}
    assert set(found) == {
        "environments.prod.stor",
        "environments.prod.registry",
        "environments.prod.kfp.token",
        "environments.Bad Name",
        "extends",
    }
    assert "store" in found["environments.prod.stor"].hint
    assert "extends" not in found["extends"].allowed
    assert not any("hunter2" in str(problem) for problem in found.values())


def test_load_accepts_an_environment_that_only_the_file_or_only_an_overlay_has(specs: Path, file: Path) -> None:
    assert load(specs / "home.yaml", env="prod").recommender.model.neighbours == 50  # type: ignore[union-attr]
    write(specs / "home" / "overlays" / "gpu.yaml", "model: {name: vsknn, neighbours: 7}")
    assert load(specs / "home.yaml", env="gpu").recommender.model.neighbours == 7  # type: ignore[union-attr]
    with pytest.raises(SpecError) as raised:
        load(specs / "home.yaml", env="prdo")
    assert raised.value.problems[0].allowed == "default, gpu, prod"
    write(file, "kind: Environments")
    with pytest.raises(SpecError) as raised:
        load(specs / "home.yaml", env="prod")
    assert [problem.key for problem in raised.value.problems] == ["apiVersion", "environments"]


def test_where_no_spec_is_read_an_unknown_environment_is_refused(
    specs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pipelines" / "specs"
    write(folder / FILE, ENVIRONMENTS)
    write(folder / "home" / "overlays" / "gpu.yaml", "seed: 1")
    assert resolve(None, "default", variables={}).store == str(folder / "here")
    assert resolve(None, "gpu", variables={}).env is None
    with pytest.raises(SpecError) as raised:
        resolve(None, "prdo", variables={})
    assert raised.value.problems[0].allowed == "default, gpu, prod"


def test_the_file_is_the_variables_or_lies_beside_the_spec(
    specs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(write(tmp_path / "cwd" / "pipelines" / "specs" / FILE, ENVIRONMENTS).parents[2])
    shared = tmp_path / "cwd" / "pipelines" / "specs" / FILE
    assert find_file(None, {}) == shared
    assert find_file(specs / "home.yaml", {}) is None
    beside = write(specs / FILE, ENVIRONMENTS)
    assert find_file(specs / "home.yaml", {}) == beside
    named = write(tmp_path / "elsewhere.yaml", ENVIRONMENTS)
    assert find_file(specs / "home.yaml", {"ENDCAP_ENVIRONMENTS": str(named)}) == named
    with pytest.raises(NotFoundError) as raised:
        find_file(None, {"ENDCAP_ENVIRONMENTS": str(tmp_path / "none.yaml")})
    assert raised.value.code == "spec.no-environments"
