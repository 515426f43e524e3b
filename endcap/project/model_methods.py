"""The methods of a project that fit, judge and pack models."""

from __future__ import annotations

from typing import Any

from endcap.project.artifacts import Package, Trained, Verdict
from endcap.project.base import Input, ProjectBase
from endcap.project.comparison import Comparison


class ModelMethods(ProjectBase):
    """The steps `train`, `evaluate` and `refit`, and `search` and `compare`."""

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

        taken = self._resolve_input("dataset", dataset)
        with self._show_step("train") as progress:
            address = train(self.recommender, taken, self.store, self.registry or None, progress=progress)
            fit_champion(self.recommender, taken, self.store, self.registry or None, progress=progress)
        facts = self._read_facts(address)
        return Trained(self._remember("trained", address), describe(facts), facts, self.store)

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

        registered = open_registry(self.registry or None, self.store).version(self.recommender.name, version)
        with self._show_step("train") as progress:
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

        taken = self._resolve_input("verdict", verdict)
        judged = self._read_facts(taken)
        with self._show_step("refit") as progress:
            address = refit(
                self.recommender, judged["dataset"], judged["trained"], taken, self.store, progress=progress
            )
        size = sum(described["bytes"] for described in self.store.manifest(address)["files"].values())
        facts = self._read_facts(address)
        return Package(self._remember("package", address), f"{size / 1e6:,.1f} MB", facts, self.store)
