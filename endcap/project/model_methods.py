"""The methods of a project that fit, judge and pack models."""

from __future__ import annotations

from typing import Any

from endcap.project.artifacts import Package, Trained, Verdict
from endcap.project.base import Input, ProjectBase
from endcap.project.comparison import Comparison


class ModelMethods(ProjectBase):
    """The steps `train`, `evaluate` and `refit`, and `search` and `compare`."""

    def train(self, dataset: Input = None) -> Trained:
        """Find the model's settings if the spec has a search, and fit the model on the training part.

        A training that was killed continues from its last epoch. If the champion's package has seen the test, its
        recipe is fitted on the training part too, so that `evaluate` can compare with it.

        Parameters
        ----------
        dataset
            What `features` made; None: what this project made last.

        Returns
        -------
        Trained
            The fitted model, its settings, and the history of its fit.

        Raises
        ------
        UserError
            There is no dataset yet, or the spec does not fit the dataset.

        Examples
        --------
        >>> trained = project.train()
        >>> trained.model["name"]
        'vsknn'
        """
        from endcap.training import describe, fit_champion, train

        taken = self._resolve_input("dataset", dataset)
        with self._show_step("train") as progress:
            address = train(self.recommender, taken, self.store, self.registry or None, progress=progress)
            fit_champion(self.recommender, taken, self.store, self.registry or None, progress=progress)
        facts = self._read_facts(address)
        return Trained(self._remember("trained", address), describe(facts), facts, self.store)

    def search(self, dataset: Input = None, **settings: Any) -> Trained:
        """Find the best settings of the model by trials, and fit the model with them.

        It does what `train` does, with these settings of the spec's `search`.

        Parameters
        ----------
        dataset
            What `features` made.
        **settings
            Of the spec's section `search`, such as ``trials=20, time_budget="10m"``.

        Returns
        -------
        Trained
            Its `trials` list each trial's settings and score; its `model` has the best settings.

        Raises
        ------
        SpecError
            A setting of the search is unknown or wrong.
        UserError
            There is no dataset yet.

        Examples
        --------
        >>> trained = project.search(trials=1)  # one trial is the model as it is
        >>> trained.trials
        []
        """
        document = self.recommender.model_dump(mode="json", exclude_none=True)
        searching = self.replace(search={**document.get("search", {}), **settings})
        trained = searching.train(self._resolve_input("dataset", dataset))
        self._remember("trained", trained.address)
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
            A registered version instead of a trained model, on the dataset that this project made last. Its package is
            judged as it is. If the package has seen the test, its recipe is fitted on the training part and judged.

        Returns
        -------
        Verdict
            The metrics, the gate's conditions, its outcome, and the report.

        Raises
        ------
        UserError
            There is no trained model or no dataset yet.
        NotFoundError
            There is no such version.

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
            data = self._resolve_input("dataset", dataset)
            model = self._fit_version(version, data)
        else:
            model = self._resolve_input("trained", trained)
            data = (
                str(self._read_facts(model)["dataset"]) if dataset is None else self._resolve_input("dataset", dataset)
            )
        with self._show_step("evaluate") as progress:
            address = judge(self.recommender, data, model, self.store, registry, shop=self._shop, progress=progress)
            publish_report(self.recommender.name, address, self.store, registry, progress=progress)
        facts = self._read_facts(address)
        if not version:  # which there is nothing to make of
            self._remember("verdict", address)
        return Verdict(address, describe_verdict(facts), facts, self.store)

    def _fit_version(self, version: str, dataset: str) -> str:
        """The address of what can be judged of a registered version."""
        from endcap.registry import open_registry
        from endcap.training import fit_version

        registered = open_registry(self.registry or None, self.store).get_version(self.recommender.name, version)
        with self._show_step("train") as progress:
            return fit_version(registered, self.recommender, dataset, self.store, progress=progress)

    def compare(self, *models: Any, dataset: Input = None, **labelled: Any) -> Comparison:
        """Train several models on one dataset and judge them on the same predictions.

        No gate decides, and nothing is registered.

        Parameters
        ----------
        *models, **labelled
            The models. Each is a model's name, a model's section of the spec, such as
            ``{"name": "vsknn", "sample": 500}``, `spec` for the spec's own model, or a project with another model or
            preprocessing. A keyword, or a key of a mapping, labels its model. The default is the spec's own model. The
            others are compared with the first. Models that are written here are trained without a search. The spec's
            baselines are judged too.
        dataset
            What `features` made.

        Returns
        -------
        Comparison
            The metrics of each model, and how they differ from the first model's.

        Raises
        ------
        UserError
            A project has another split, protocol or shop, so its figures cannot be compared; or a label is invalid.

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

        taken, every = self._resolve_input("dataset", dataset), [*models, *([labelled] if labelled else [])]
        projects = make_contestants(self, every or [SPEC_MODEL])
        compared = [
            ComparedModel(label, project.recommender, project.train(taken).address)
            for label, project in projects.items()
        ]
        with self._show_step("compare") as progress:
            address = compare(compared, taken, self.store, shop=self._shop, progress=progress)
            publish_comparison_report(self.recommender.name, address, self.store, progress=progress)
        facts = self._read_facts(address)
        return Comparison(address, f"{len(compared)} models on {describe_queries(facts)}", facts, self.store)

    def refit(self, verdict: Input = None) -> Package:
        """Fit the model that passed the gate on all data, and write its package.

        Parameters
        ----------
        verdict
            What `evaluate` made; None: what this project made last.

        Returns
        -------
        Package
            All that serving needs of the model.

        Raises
        ------
        UserError
            The gate failed, or there is no verdict yet.

        Examples
        --------
        >>> package = project.refit()
        >>> package.facts["verdict"] == project.evaluate().address
        True
        """
        from endcap.training import refit

        taken = self._resolve_input("verdict", verdict)
        judged = self._read_facts(taken)
        with self._show_step("refit") as progress:
            address = refit(
                self.recommender, judged["dataset"], judged["trained"], taken, self.store, progress=progress
            )
        size = sum(described["bytes"] for described in self.store.manifest(address)["files"].values())
        facts = self._read_facts(address)
        return Package(self._remember("package", address), f"{size / 1e6:,.1f} MB", facts, self.store)
