"""The base of `Project`: its specs, its places, and the addresses of what earlier steps made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from endcap.errors import UserError
from endcap.progress import Notice
from endcap.project.artifacts import Artifact
from endcap.project.progress_bar import Progress, show_progress
from endcap.retries import send_wait_lines
from endcap.spec import Recommender, Shop
from endcap.steps import STEPS
from endcap.store import Store

if TYPE_CHECKING:
    from endcap.registry.package import LoadedPackage as LoadedPackage

Input = Artifact | str | None
"""What an earlier step made: its object, its address, or None for what this project made last."""
_MAKERS = {step.makes: step.name for step in STEPS.values() if step.makes}


class ProjectBase:
    """The specs and stores of a project, and the addresses of what it made last; see `Project`."""

    def __init__(
        self,
        store: Store,
        *,
        recommender: Recommender | None = None,
        shop: Shop | None = None,
        registry: str = "",
        online: str = "",
        run: str = "",
        progress: Progress | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        self.store = store
        self.registry = registry
        self._recommender, self._shop = recommender, shop
        self._online, self._run, self._progress = online, run, progress
        self._files = list(files)
        self._latest: dict[str, str] = {}
        self._tables: dict[str, str] = {}
        self._notices: dict[str, list[Notice]] = {}
        self._loaded_package: tuple[str, LoadedPackage] | None = None

    @classmethod
    def of(
        cls,
        store: str,
        *,
        recommender: Mapping[str, Any] | None = None,
        shop: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Self:
        """Make the project of a pipeline's step.

        Parameters
        ----------
        store
            The store's address.
        recommender, shop
            The resolved specs as documents.
        **settings
            Further arguments of `Project`. An empty `registry` stands for ENDCAP_REGISTRY, which may hold credentials,
            or else for the store's own registry.
        """
        from endcap.registry.address import resolve_registry_url
        from endcap.store import open_store

        if "registry" in settings:
            settings["registry"] = resolve_registry_url(settings["registry"])
        return cls(
            open_store(store),
            recommender=Recommender.model_validate(recommender) if recommender else None,
            shop=Shop.model_validate(shop) if shop else None,
            **settings,
        )

    def replace(self, **settings: Any) -> Self:
        """Make a project with other settings of the recommender, on the same data, store and registry.

        Parameters
        ----------
        **settings
            Keys of the recommender's spec, with values as in the spec's file. None removes a key.

        Returns
        -------
        Project
            The new project. It goes on from this one's snapshot and dataset.

        Raises
        ------
        SpecError
            A setting is unknown or wrong. The error lists each mistake with its key.

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
        other = type(self)(
            self.store,
            recommender=changed.recommender,
            shop=self._shop,
            registry=self.registry,
            online=self._online,
            run=self._run,
            progress=self._progress,
            files=self._files,
        )
        other._latest |= {name: address for name, address in self._latest.items() if name in ("snapshot", "dataset")}
        return other

    @property
    def recommender(self) -> Recommender:
        """The recommender's spec."""
        if self._recommender is None:
            raise UserError(
                "this step needs a recommender's spec, and this project has none; open the project with one",
                code="project.no-recommender",
            )
        return self._recommender

    @property
    def shop(self) -> Shop:
        """The shop's spec."""
        if self._shop is None:
            raise UserError(
                "this step needs a shop's spec, and this project has none; open the project with one",
                code="project.no-shop",
            )
        return self._shop

    def _resolve_input(self, name: str, value: Input) -> str:
        """Return the address of a step's input. Raises UserError if there is none."""
        if isinstance(value, Artifact):
            return value.address
        if value:
            return value
        if name not in self._latest:
            step = _MAKERS[name]
            raise UserError(
                f"no {name} yet: call project.{step}() first, or give the {name}",
                code="project.input-missing",
                input=name,
                step=step,
            )
        return self._latest[name]

    def _remember(self, name: str, address: str) -> str:
        self._latest[name] = address
        return address

    def _read_facts(self, address: str) -> Mapping[str, Any]:
        facts: Mapping[str, Any] = self.store.manifest(address)["facts"]
        return facts

    @contextmanager
    def _show_step(self, step: str) -> Iterator[Progress]:
        """Show the lines of a step, and keep its notices."""
        notices = self._notices[step] = []
        with show_progress(step) if self._progress is None else nullcontext(self._progress) as progress:

            def hear(line: str) -> None:
                if isinstance(line, Notice):
                    notices.append(line)
                progress(line)

            with send_wait_lines(hear):
                yield hear

    def _repr_html_(self) -> str:
        from endcap.tables import format_html_table

        return format_html_table(["", ""], self._rows(), caption="Project")

    def __repr__(self) -> str:
        return "Project(" + ", ".join(f"{name}={value}" for name, value in self._rows()) + ")"

    def _rows(self) -> Sequence[tuple[str, str]]:
        specs = [("recommender", self._recommender), ("shop", self._shop)]
        named = [(name, spec.name) for name, spec in specs if spec is not None]
        return [*named, ("store", self.store.root), *self._latest.items()]
