"""A shop's data and a recommender in one object: each method runs one step of the pipelines, here and now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from endcap.errors import EndcapError, NotFoundError, UserError
from endcap.progress import Notice
from endcap.project.artifacts import Dataset, Package, Snapshot, Trained, Verdict
from endcap.project.base import Input
from endcap.project.comparison import Comparison
from endcap.project.progress_bar import Progress
from endcap.project.read_methods import ReadMethods
from endcap.project.results import Deployed, Description, Lists, PipelineRun, Registered
from endcap.spec.base import parse_date
from endcap.steps import STEPS, parameters_of

if TYPE_CHECKING:
    from endcap.runs import RunEvent


class Project(ReadMethods):
    """A recommender with its shop, a store and a registry. `endcap.open` makes it.

    Each method runs one step and gives a small object on what the step made. What was made before from the same data,
    settings and code is not made again. A method takes what earlier steps made; left out, it is what this project made
    last. `run` runs a whole pipeline.

    Parameters
    ----------
    store
        Where artifacts lie.
    recommender, shop
        The checked specs. A step that needs one that is missing raises UserError.
    registry
        MLflow's address; empty: a data base in the store.
    online
        The online store's address; empty: as ENDCAP_ONLINE says, else a file in the store; `none`: none.
    run
        The name of the run that the steps are of, for the lineage.
    progress
        Gets each step's lines. None: a bar, on a terminal or in a notebook.
    files
        The files that the specs were read from, for the records of runs.

    Examples
    --------
    >>> project = endcap.open("trial", store=folder, sets=["search=null"])
    >>> snapshot = project.ingest()
    >>> dataset = project.features()
    >>> trained = project.train()
    >>> verdict = project.evaluate()
    >>> verdict.passed
    True
    >>> package = project.refit()
    >>> project.register().number
    '1'
    >>> len(project.rank(items=[], k=3).ids)
    3
    """

    def replace(self, **settings: Any) -> Project:
        """A project with other settings of the recommender, on the same data, store and registry.

        Parameters
        ----------
        **settings
            Keys of the recommender's spec, with values as the spec's file has them.

        Raises
        ------
        SpecError
            With each mistake at its key.

        Examples
        --------
        >>> project = endcap.open("trial", store=folder)
        >>> project.replace(model={"name": "popularity"}, search=None).recommender.model.name
        'popularity'
        """
        from endcap.spec.load import load_documents

        document = {**self.recommender.model_dump(mode="json", exclude_none=True), **settings}
        document = {key: value for key, value in document.items() if value is not None}
        changed = load_documents(document, self.shop.model_dump(mode="json", exclude_none=True))
        other = Project(
            self.store,
            recommender=changed.recommender,
            shop=self._shop,
            registry=self.registry,
            online=self._online,
            run=self._run,
            progress=self._progress,
            files=self._files,
        )
        other._made |= {name: address for name, address in self._made.items() if name in ("snapshot", "dataset")}
        return other

    def ingest(self, events: Any = None, *, items: Any = None, customers: Any = None) -> Snapshot:
        """Check every event, item and customer, set bad rows aside, and write a snapshot.

        Parameters
        ----------
        events, items, customers
            Frames in place of the shop's files: pandas, Polars, Arrow, or a stream of Arrow batches, with the columns
            that the shop's spec names. The project keeps them as its sources.

        Raises
        ------
        DataError
            For files or columns that are missing, and for too many bad rows.

        Examples
        --------
        >>> snapshot = project.ingest()
        >>> snapshot.facts["events"]
        55339
        >>> snapshot.bad
        {}
        """
        from endcap.description.summaries import summarize_ingest
        from endcap.events import ingest
        from endcap.project.frames import use_frames

        frames = {"events": events, "items": items, "customers": customers}
        if any(frame is not None for frame in frames.values()):
            self._shop = use_frames(self.shop, frames, self.store)
        with self._following("ingest") as progress:
            address = ingest(self.shop, self.store, progress=progress)
        facts = self._facts(address)
        files = [file for notice in self._notices["ingest"] for file in notice.fields["files"]]
        summary = summarize_ingest(facts, files=len(files))
        return Snapshot(self._made_now("snapshot", address), summary, facts, self.store)

    def features(self, snapshot: Input = None, *, until: datetime | str | None = None) -> Dataset:
        """Make sessions, the item table and event features of a snapshot: a dataset for all recommenders of the shop.

        Items and customers are published in the online store: the one that the project or ENDCAP_ONLINE names, else a
        file in the store, where that is a folder. A dataset that is found is published too, where it is not there yet.

        Parameters
        ----------
        snapshot
            What `ingest` made.
        until
            Only events before this moment count (UTC where it names no zone); None: all.

        Raises
        ------
        DataError
            Where no events are left.

        Examples
        --------
        >>> dataset = project.features(until="2026-03-14")
        >>> dataset.to_pandas("items")["events"].is_monotonic_decreasing
        True
        """
        from endcap.deploy import find_served_datasets
        from endcap.description.summaries import summarize_features
        from endcap.features.retention import publish_dataset_rows

        taken = self._input("snapshot", snapshot)
        with self._following("features") as progress:
            address = self._built(taken, until, progress)
            told = self._told(taken, address, progress)
            served = find_served_datasets(self.shop.name, self.store)
            published = publish_dataset_rows(
                self.shop, address, self.store, progress, online=self._online, served=served
            )
        facts = self._facts(address)
        summary = f"{summarize_features(facts, told)}{published}"
        return Dataset(address, summary, facts, self.store)

    def describe(self, *, snapshot: Input = None, dataset: Input = None) -> Description:
        """Tell what the shop's data say: span, rows, sessions, what matches nothing, and what to look at.

        Parameters
        ----------
        snapshot, dataset
            What `ingest` and `features` made, such as older ones; of one of them, the other is what belongs to it.
            Without either both are made now, as a run makes them, but for the online store.

        Raises
        ------
        DataError
            As `ingest` and `features` do, and for mistakes in the blacklist.

        Examples
        --------
        >>> description = project.describe()
        >>> description.facts["data"]["events"]
        55339
        >>> description.warnings
        []
        """
        from endcap.description import describe
        from endcap.events.query import addresses
        from endcap.rules.read import read_rules

        given = {name: self._input(name, one) for name, one in (("snapshot", snapshot), ("dataset", dataset)) if one}
        left_out = None
        if not given:
            given["snapshot"] = self.ingest().address
            left_out = [notice.fields for notice in self._notices["ingest"]]
            with self._following("features") as progress:
                given["dataset"] = self._built(given["snapshot"], None, progress)
        log, made = addresses(self.store, shop=self.shop.name, **given)
        with self._following("describe") as progress:
            rules = read_rules(self.shop, progress)
            return Description(describe(log, made, self.store, rules, left_out=left_out))

    def _built(self, snapshot: str, until: datetime | str | None, progress: Progress) -> str:
        from endcap.features import build

        end = parse_date(until) if isinstance(until, str) and until else until or None
        assert not isinstance(end, str)
        return self._made_now("dataset", build(self.shop, snapshot, self.store, until=end, progress=progress))

    def _told(self, snapshot: str, dataset: str, progress: Progress) -> Mapping[str, Any] | None:
        """The description of a dataset that a step has made. What cannot be described is no reason to fail."""
        from endcap.description import describe
        from endcap.rules.read import read_rules

        rules = None
        try:
            rules = read_rules(self.shop, progress)
        except UserError as error:  # the evaluate step stops at it
            progress(Notice(f"the blacklist cannot be held against the log: {error}"))
        try:
            told = describe(snapshot, dataset, self.store, rules)
        except NotFoundError:  # the snapshot that the dataset was made of is no more
            return None
        for warning in told["warnings"]:
            if warning["name"] not in ("files_left_out", "bad_rows"):  # which ingest tells
                progress(Notice(warning["text"], **{name: warning[name] for name in warning if name != "text"}))
        return told

    def train(self, dataset: Input = None) -> Trained:
        """Find the model's settings where the spec has a search, and fit the model on the training part.

        A training that was killed goes on from its last epoch. Where the champion's package has seen the test, its
        recipe is fitted on the training part too, for `evaluate` to compare with.

        Examples
        --------
        >>> trained = project.train()
        >>> trained.model["name"]
        'vsknn'
        """
        from endcap.training import describe, fit_champion, train

        taken = self._input("dataset", dataset)
        with self._following("train") as progress:
            address = train(self.recommender, taken, self.store, self.registry or None, progress=progress)
            fit_champion(self.recommender, taken, self.store, self.registry or None, progress=progress)
        facts = self._facts(address)
        return Trained(self._made_now("trained", address), describe(facts), facts, self.store)

    def search(self, dataset: Input = None, **settings: Any) -> Trained:
        """Find the model's settings by trials, and fit the model with the best: `train` with these `search` settings.

        Parameters
        ----------
        dataset
            What `features` made.
        **settings
            Of the spec's section `search`, such as ``trials=20, time_budget="10m"``.

        Returns
        -------
        Trained
            Its `trials` tell each trial's settings and score; its `model` has the best settings.

        Examples
        --------
        >>> trained = project.search(trials=1)  # one trial is the model as it is
        >>> trained.trials
        []
        """
        document = self.recommender.model_dump(mode="json", exclude_none=True)
        searching = self.replace(search={**document.get("search", {}), **settings})
        trained = searching.train(self._input("dataset", dataset))
        self._made_now("trained", trained.address)
        return trained

    def evaluate(self, trained: Input = None, *, dataset: Input = None, version: str = "") -> Verdict:
        """Compare a trained model with the champion and the baselines, and decide by the gate. Writes the report too.

        Parameters
        ----------
        trained
            What `train` or `search` made.
        dataset
            What the model is judged on; None: the dataset that it was trained on.
        version
            A registered version in place of a trained model, on the dataset that this project made last: as its package
            is, or where that has seen the test by its recipe, fitted on the training part.

        Examples
        --------
        >>> verdict = project.evaluate()
        >>> verdict.passed
        True
        >>> verdict.metrics["challenger"]["mrr@20"] > verdict.metrics["popularity"]["mrr@20"]
        True
        """
        from endcap.evaluation import describe_verdict, judge
        from endcap.report import publish_report

        registry = self.registry or None
        if version:
            data = self._input("dataset", dataset)
            model = self._fitted_version(version, data)
        else:
            model = self._input("trained", trained)
            data = str(self._facts(model)["dataset"]) if dataset is None else self._input("dataset", dataset)
        with self._following("evaluate") as progress:
            address = judge(self.recommender, data, model, self.store, registry, shop=self._shop, progress=progress)
            publish_report(self.recommender.name, address, self.store, registry, progress=progress)
        facts = self._facts(address)
        if not version:  # which there is nothing to make of
            self._made_now("verdict", address)
        return Verdict(address, describe_verdict(facts), facts, self.store)

    def _fitted_version(self, version: str, dataset: str) -> str:
        """The address of what can be judged of a registered version."""
        from endcap.registry import open_registry
        from endcap.training import fit_version

        registered = open_registry(self.registry or None, self.store).version(self.recommender.name, version)
        with self._following("train") as progress:
            return fit_version(registered, self.recommender, dataset, self.store, progress=progress)

    def compare(self, *models: Any, dataset: Input = None, **labelled: Any) -> Comparison:
        """Train several models on one dataset and judge them on the same predictions; no gate, nothing is registered.

        Parameters
        ----------
        *models, **labelled
            Each a model's name, its section of the spec, such as ``{"name": "vsknn", "sample": 500}``, `spec` for the
            spec's own model, or a project with another model or preprocessing; labels are keywords, or the keys of a
            mapping. Without any, the spec's own. The others are held against the first. Written models are trained as
            they are, without a search. The spec's baselines are judged beside them.
        dataset
            What `features` made.

        Raises
        ------
        UserError
            Where a project has another split, protocol or shop: its figures would not compare.

        Examples
        --------
        >>> project = endcap.open("trial", store=folder, sets=["search=null"])
        >>> snapshot, dataset = project.ingest(), project.features()
        >>> comparison = project.compare("sequential-rules", wide={"name": "vsknn", "sample": 500})
        >>> comparison.labels
        ['sequential-rules', 'wide']
        """
        from endcap.evaluation.compare import ComparedModel, compare
        from endcap.evaluation.verdict_text import describe_queries
        from endcap.project.contestants import SPEC_MODEL, make_contestants
        from endcap.report import publish_comparison_report

        taken, every = self._input("dataset", dataset), [*models, *([labelled] if labelled else [])]
        projects = make_contestants(self, every or [SPEC_MODEL])
        made = [ComparedModel(label, one.recommender, one.train(taken).address) for label, one in projects.items()]
        with self._following("compare") as progress:
            address = compare(made, taken, self.store, shop=self._shop, progress=progress)
            publish_comparison_report(self.recommender.name, address, self.store, progress=progress)
        facts = self._facts(address)
        return Comparison(address, f"{len(made)} models on {describe_queries(facts)}", facts, self.store)

    def refit(self, verdict: Input = None) -> Package:
        """Fit the winner on all data, and write its package.

        Raises
        ------
        UserError
            Where the gate failed.

        Examples
        --------
        >>> package = project.refit()
        >>> package.facts["verdict"] == project.evaluate().address
        True
        """
        from endcap.training import refit

        taken = self._input("verdict", verdict)
        judged = self._facts(taken)
        with self._following("refit") as progress:
            address = refit(
                self.recommender, judged["dataset"], judged["trained"], taken, self.store, progress=progress
            )
        size = sum(described["bytes"] for described in self.store.manifest(address)["files"].values())
        facts = self._facts(address)
        return Package(self._made_now("package", address), f"{size / 1e6:,.1f} MB", facts, self.store)

    def register(self, package: Input = None, *, verdict: Input = None) -> Registered:
        """Make a version of a package in the registry, approved by the gate or waiting for a person.

        Parameters
        ----------
        package
            What `refit` made.
        verdict
            What the version is registered for; None: the verdict that the package was first made for.

        Examples
        --------
        >>> version = project.register()
        >>> version.version.state
        'approved'
        """
        from endcap.registry import describe_version, open_registry, register

        taken, registry = self._input("package", package), self.registry or None
        name = self.recommender.name
        judged = self._facts(taken)["verdict"] if verdict is None else self._input("verdict", verdict)
        with self._following("register") as progress:
            version = register(self.recommender, taken, judged, self.store, registry, run=self._run, progress=progress)
        self._made_now("version", version)
        registered = open_registry(registry, self.store).version(name, version)
        return Registered(registered, describe_version(name, version, self.store, registry))

    def deploy(self, version: Registered | str | None = None, *, namespace: str = "") -> Deployed:
        """Write that a version should serve: the champion to everyone, a challenger to the canary's share.

        Parameters
        ----------
        version
            What `register` made, or its number.
        namespace
            Of the cluster that serves, which is made to follow; empty: only the wanted state is written, for
            `endcap serve`.

        Examples
        --------
        >>> deployed = project.deploy(project.register())
        >>> deployed.state.stable.version
        '1'
        """
        from endcap.deploy import deploy, describe, read_state

        number = version.number if isinstance(version, Registered) else self._input("version", version)
        name, outcome = self.recommender.name, ""
        with self._following("deploy") as progress:
            state = deploy(self.recommender, number, self.store, self.registry or None)
            served = [] if state is None else [one.version for one in (state.stable, state.canary) if one is not None]
            if namespace and number in served:
                from endcap.cluster import connect
                from endcap.deploy.reconcile import reconcile

                cluster = connect()
                outcome = str(
                    reconcile(
                        self.recommender,
                        lambda: read_state(name, self.store),
                        cluster,
                        namespace,
                        progress=progress,
                        lies_at=self.store.lies_at,
                    )
                )
        return Deployed(state, describe(state, number), outcome)

    def recommend(
        self, dataset: Input = None, *, version: str = "", customers: str = "", publish: bool = True
    ) -> Lists:
        """Make every customer's list by the versions that serve, and publish the lists in the online store.

        Parameters
        ----------
        dataset
            Whose customers get lists.
        version
            This registered version alone; empty: the champion, and what else serves.
        customers
            A file that names the customers; empty: all.
        publish
            False makes the lists and publishes nothing.

        Examples
        --------
        >>> lists = project.recommend(publish=False)
        >>> lists.to_arrow().column_names
        ['customer', 'items', 'scores', 'model_version', 'made']
        """
        from endcap.batch import PATIENCE, ListRequest, describe_lists, publish_lists, recommend
        from endcap.online import open_online, resolve_online_url

        taken = self._input("dataset", dataset)
        wanted = ListRequest(dataset=taken, version=version or None, customers=customers or None)
        with self._following("recommend") as progress:
            made = recommend(
                self.recommender, self.shop, self.store, self.registry or None, request=wanted, progress=progress
            )
            address = resolve_online_url(self._online, self.store.root) if publish else None
            if address is None:
                progress("no online store: the lists are not published")
            else:
                with open_online(address, shop=self.shop.name, timeout=PATIENCE) as online:
                    publish_lists(self.recommender, made, self.store, online, progress=progress)
        self._made_now("recommendations", made[0].address)
        return Lists(made, address is not None, describe_lists(made, published=address is not None), self.store)

    def run(
        self, pipeline: str = "training", *, until: datetime | str | None = None, why: str = "", **parameters: str
    ) -> PipelineRun:
        """Run a whole pipeline on this machine, each step in a process of its own, as `endcap run` does.

        Parameters
        ----------
        pipeline
            `training`, `features` or `recommend`.
        until
            Only events before this moment count; None: all.
        why
            The reason, for the run's record.
        **parameters
            Further parameters of the pipeline, such as `version` of `recommend`.

        Raises
        ------
        EndcapError
            Where a step failed, with the step's own code.

        Examples
        --------
        >>> ran = project.run("features", why="new events")
        >>> list(ran.results)
        ['ingest', 'features']
        >>> ran.run.state
        'succeeded'
        """
        from endcap.project.local_run import LocalRun
        from endcap.runs import StepEnd, StepFailure, read_run
        from endcap.runs import StepProgress as Said
        from endcap.spec.load import Loaded

        date = until.isoformat() if isinstance(until, datetime) else until or ""
        loaded = Loaded(self.recommender, self.shop, self._files)
        online = {"online": self._online} if "online" in parameters_of(pipeline) else {}
        given = {"logical_date": date, **online, **parameters}
        local = LocalRun.of(loaded, pipeline, self.store, registry=self.registry, online_store=self._online, **given)
        results: dict[str, str] = {}
        faults: list[StepFailure] = []
        with self._following(pipeline) as progress:

            def listen(event: RunEvent) -> None:
                if isinstance(event, Said):
                    progress(f"{event.step}: {event.line}")
                elif isinstance(event, StepEnd):
                    results[event.step] = event.result
                    progress(f"{event.step}: {event.summary}")
                elif isinstance(event, StepFailure):
                    faults.append(event)

            try:
                local.start(listen, why=why)
            except EndcapError as error:
                if not faults:
                    raise
                failed = faults[0]
                raise EndcapError(
                    f"step {failed.step} failed: {failed.fault.message}; its log: {local.folder}/{failed.step}.log",
                    code=failed.fault.code,
                    **{**failed.fault.fields, "run": local.name, "step": failed.step},
                ) from error
        self._made |= {STEPS[step].makes: made for step, made in results.items() if step in STEPS and STEPS[step].makes}
        return PipelineRun(read_run(self.store, local.name), results)
