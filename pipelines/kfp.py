"""Runs on Kubeflow Pipelines: a version uploaded, a run created once, and followed to its end."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import kfp_server_api
import urllib3
import yaml
from kfp import client as kfp_client
from kfp_server_api import V2beta1PipelineVersion, V2beta1Run

from endcap.errors import EndcapError, NotFoundError, TransientError, UserError
from endcap.runs import Done, Event, Failed, Run, Silent, Started, StepRun
from endcap.spec.load import Loaded

from .package import package
from .progress import ended, seen

Json = dict[str, Any]
_Answer = TypeVar("_Answer")
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
GRACE = timedelta(minutes=1)
"""How long after the run's deadline its steps may still say that it passed."""


def connect(
    *,
    host: str | None = None,
    namespace: str | None = None,
    token: str | None = None,
    context: str | None = None,
    ca: str | None = None,
) -> Server:
    """Reach KFP as its own client does: by what is given, its environment variables, in-cluster, or by kubeconfig.

    Raises UserError where it refuses, TransientError where nothing answers.
    """
    arguments = {"host": host, "existing_token": token, "kube_context": context, "ssl_ca_cert": ca}
    if namespace:
        arguments["namespace"] = namespace
    said: list[str] = []

    def made() -> _Client:
        with _quiet() as printed:
            try:
                return _Client(**arguments)
            finally:
                said.append(printed.getvalue())

    try:
        client = _asked("reach KFP", made)
    except TransientError:
        if "Failed to load kube config" not in said[0]:
            raise
        raise UserError(
            "no KFP is named: give --kfp-host (or KFP_ENDPOINT), or a kubeconfig whose cluster has it",
            code="kfp.no-host",
        ) from None
    return Server(client)


@dataclass(frozen=True)
class Submitted:
    """A run that KFP has taken. page: its address in KFP's pages."""

    id: str
    page: str
    version: str
    new_version: bool


class Server:
    """One KFP."""

    interval = 2.0
    """Seconds between two looks at a run."""
    patience = 900.0
    """Seconds that a server is waited for that does not answer."""

    def __init__(self, client: kfp_client.Client) -> None:
        self._client = client

    def submit(self, loaded: Loaded, pipeline: str, arguments: Json, *, name: str) -> Submitted:
        """Upload the spec's package unless this version is there, and start a run of it, in the recommender's
        experiment. A run is created once, also where KFP's answer to that gets lost."""
        pipeline_id = self._pipeline(f"endcap-{pipeline}-{loaded.recommender.name}")
        version_id, version, new = self._version(pipeline_id, pipeline, loaded)
        experiment = self._again("create the experiment", self._client.create_experiment, loaded.recommender.name)
        run = self._create(experiment.experiment_id, name, pipeline_id, version_id, arguments)
        return Submitted(run.run_id, self.page(run.run_id), version, new)

    def page(self, run: str) -> str:
        return f"{self._client._get_url_prefix()}/#/runs/details/{run}"

    def end(self, run: str) -> None:
        """End a run. Raises NotFoundError."""
        self._again(f"end the run {run}", self._client.terminate_run, run)

    def follow(
        self,
        run: str,
        steps: Sequence[str],
        listen: Callable[[Event], None],
        *,
        deadline: timedelta | None = None,
        said: Callable[[str], StepRun | None] = lambda step: None,
        recorded: Callable[[], Run | None] = lambda: None,
    ) -> None:
        """Tell `listen` of the steps as they start and end, until the run has ended well.

        said, recorded: what a step said of itself, and the run's record, where the store can be read from here. Raises
        EndcapError where the run failed, was ended, or is past its deadline (then it is ended); the failed step's
        event has told the cause.
        """
        told: dict[str, str] = {}
        while True:
            found = self._look(run, listen)
            for step, now in seen(found, steps).items():
                if told.get(step) is None:
                    listen(Started(step))
                    told[step] = "started"
                if told[step] == "started" and (event := ended(step, now, said(step))):
                    told[step] = event.kind
                    listen(event)
            if found.state in ENDED:
                for step in steps:
                    own = said(step) if step not in told else None
                    if own and own.state == "done":  # a task that KFP does not list
                        listen(Done(step, own.result, own.summary, own.seconds))
                return _verdict(found, Failed.kind in told.values(), listen, recorded)
            if deadline is not None and found.created_at and datetime.now(UTC) > found.created_at + deadline + GRACE:
                self.end(run)
                raise EndcapError(
                    "the run's deadline (pipeline.deadline) has passed, and it was ended",
                    code="run.deadline-passed",
                    deadline=(found.created_at + deadline).isoformat(timespec="seconds"),
                )
            time.sleep(self.interval)

    def _look(self, run: str, listen: Callable[[Event], None]) -> V2beta1Run:
        """The run's state; a server that does not answer for a while is waited for."""
        begun, wait, told = time.monotonic(), self.interval, False
        while True:
            try:
                return _asked(f"find the run {run}", self._client.get_run, run)
            except TransientError as error:
                if time.monotonic() - begun > self.patience:
                    raise EndcapError(
                        f"{error}; gave up following after {self.patience:.0f} s",
                        code="kfp.silent",
                        run=run,
                        seconds=self.patience,
                    ) from None
                if not told:
                    listen(Silent(f"{error}; the run goes on, asking again"))
                told = True
            time.sleep(wait)
            wait = min(2 * wait, 30.0)

    def _pipeline(self, name: str) -> str:
        def found_or_made() -> str:
            known = self._client.get_pipeline_id(name)
            if known is not None:
                return str(known)
            made = kfp_server_api.V2beta1Pipeline(display_name=name, namespace=self._namespace())
            created = self._client.pipelines.pipeline_service_create_pipeline(pipeline=made)
            return str(created.pipeline_id)

        return self._again(f"create the pipeline {name}", found_or_made)

    def _version(self, pipeline_id: str, pipeline: str, loaded: Loaded) -> tuple[str, str, bool]:
        """The version of this content: its id, its name, and whether it is new.

        A run's deadline is said to the workflow where KFP keeps it. One before 2.17 does not know it, and then drops
        every setting of pods, without a word: what it has kept is read back.
        """
        if loaded.recommender.pipeline.deadline is not None:
            version, new = self._uploaded(pipeline_id, package(pipeline, loaded, run_deadline=True))
            if "activeDeadlineSeconds" in _workflow_of(version):
                return version.pipeline_version_id, version.display_name, new
        version, new = self._uploaded(pipeline_id, package(pipeline, loaded))
        return version.pipeline_version_id, version.display_name, new

    def _uploaded(self, pipeline_id: str, text: str) -> tuple[V2beta1PipelineVersion, bool]:
        meaning = json.dumps(list(yaml.safe_load_all(text)), sort_keys=True)
        name = f"endcap-{hashlib.sha256(meaning.encode()).hexdigest()[:12]}"

        def found_or_uploaded() -> tuple[V2beta1PipelineVersion, bool]:
            versions = self._client.list_pipeline_versions(pipeline_id, filter=_named(name)).pipeline_versions
            if versions:
                return versions[0], False
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "package.yaml"
                file.write_text(text)
                return self._client.upload_pipeline_version(str(file), name, pipeline_id=pipeline_id), True

        return self._again("upload the package", found_or_uploaded)

    def _create(self, experiment_id: str, name: str, pipeline_id: str, version_id: str, arguments: Json) -> V2beta1Run:
        def found_or_created() -> V2beta1Run:
            if tried:  # KFP may have made it, although no answer came
                runs = self._client.list_runs(experiment_id=experiment_id, filter=_named(name)).runs
                if runs:
                    return runs[0]
            tried.append(True)
            return self._client.run_pipeline(
                experiment_id, name, params=arguments, pipeline_id=pipeline_id, version_id=version_id
            )

        tried: list[bool] = []
        return self._again("create the run", found_or_created)

    def _namespace(self) -> str | None:
        return self._client.get_user_namespace() or None

    def _again(self, what: str, call: Callable[..., _Answer], *arguments: Any) -> _Answer:
        """Ask, and ask again for a while where KFP is busy or away. The call must bear being repeated."""
        for wait in (1, 2, 4, 8):
            with contextlib.suppress(TransientError):
                return _asked(what, call, *arguments)
            time.sleep(wait * self.interval / 2)
        return _asked(what, call, *arguments)


class _Client(kfp_client.Client):
    """Asks for KFP's health once: the parent tries for half a minute, and prints each time."""

    def get_kfp_healthz(self, sleep_duration: int = 5) -> kfp_server_api.V2beta1GetHealthzResponse:
        return self._healthz_api.healthz_service_get_healthz()


def _workflow_of(version: V2beta1PipelineVersion) -> Json:
    """What of a package is for the workflow, as KFP has kept it."""
    kept = (version.pipeline_spec or {}).get("platform_spec") or {}
    workflow: Json = kept.get("platforms", {}).get("kubernetes", {}).get("pipelineConfig", {})
    return workflow


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _verdict(run: V2beta1Run, told: bool, listen: Callable[[Event], None], recorded: Callable[[], Run | None]) -> None:
    """Raise EndcapError unless the run ended well."""
    if run.state == "CANCELED":
        raise EndcapError("the run was ended by somebody (canceled)", code="run.canceled", run=run.run_id)
    if run.state != "FAILED":
        return
    record = recorded()  # it knows of failures that KFP's list of tasks does not show
    fault = record.fault if record else None
    if not told and record and record.failed_step and fault:
        listen(Failed(record.failed_step, fault))
    message = (run.error.message if run.error else "") or (fault.message if fault else "KFP tells no cause")
    raise EndcapError(f"the run failed: {message}", code="kfp.run-failed", run=run.run_id)


def _asked(what: str, call: Callable[..., _Answer], *arguments: Any, **named: Any) -> _Answer:
    """The answer, or an error in words: UserError (refused), NotFoundError, TransientError (busy or away)."""
    try:
        with _quiet():
            return call(*arguments, **named)
    except kfp_server_api.ApiException as error:
        said = _said(error)
        answer = {"doing": what, "status": error.status, "answer": said}
        if error.status in (401, 403):
            raise UserError(
                f"cannot {what}: KFP answered {error.status} ({said}); give a valid token (--kfp-token, or "
                "KFP_EXISTING_TOKEN) that may do this in --kfp-namespace",
                code="kfp.forbidden",
                **answer,
            ) from None
        if error.status == 404:
            raise NotFoundError(
                f"cannot {what}: KFP answered 404 ({said}); check --kfp-host and the name",
                code="kfp.not-found",
                **answer,
            ) from None
        if error.status in (0, None, 408, 429) or error.status >= 500:
            raise TransientError(
                f"cannot {what}: KFP answered {error.status or 'nothing'} ({said})", code="kfp.unavailable", **answer
            ) from None
        raise UserError(f"cannot {what}: KFP answered {error.status}: {said}", code="kfp.refused", **answer) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        cause = getattr(error, "reason", None) or error
        raise TransientError(
            f"cannot {what}: KFP does not answer ({cause})", code="kfp.unreachable", doing=what, cause=str(cause)
        ) from None
    except ValueError as error:  # kfp's client, of names that are there several times
        raise UserError(f"cannot {what}: {error}", code="kfp.ambiguous", doing=what) from None


def _said(error: kfp_server_api.ApiException) -> str:
    """What KFP's error says; a proxy before it answers with pages."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body or ""
    try:
        message = json.loads(body).get("message", "")
    except (ValueError, AttributeError):
        message = ""
    return (message or error.reason or body).strip()[:1000]


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """KFP's client prints links and warnings of its own."""
    import warnings

    said = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(said):
        warnings.simplefilter("ignore")
        yield said
