"""What a project reads: rankings, versions, runs, experiments, files and tables. Nothing here is a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.errors import NotFoundError
from endcap.project.base import Input, ProjectBase
from endcap.project.progress_bar import Progress
from endcap.project.results import Ranking, Runs, Versions

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from endcap.registry.package import LoadedPackage as LoadedPackage


class ReadMethods(ProjectBase):
    """The methods of `Project` that make no artifact of a step."""

    def rank(self, *, package: Input = None, version: str = "", now: datetime | None = None, **request: Any) -> Ranking:
        """Rank items in this process, with the code that serves and without a server.

        The online store adds what it knows of the customer or the session, and the rules that hold now.

        Parameters
        ----------
        package
            What `refit` made; None: what this project made last, or else the champion's package.
        version
            A registered version instead of a package.
        now
            The moment of the request; None: the present.
        **request
            The fields of a request to the service: `items` or `events`, `customer`, `k`, `candidates`, `filter`,
            `exclude`, …

        Returns
        -------
        Ranking
            The items, best first, with their scores.

        Raises
        ------
        RequestError
            A field of the request is wrong; the error names it.
        NotFoundError
            There is no such version, or no package yet.

        Examples
        --------
        >>> ranking = project.rank(items=[], k=3)
        >>> len(ranking.ids)
        3
        >>> ranking.to_pandas()["place"].tolist()
        [1, 2, 3]
        """
        from endcap.online import resolve_online_url
        from endcap.registry.direct_answers import answer_directly

        loaded = self._package(package, version)
        moment = None if now is None else int(now.timestamp() * 1000)
        online = resolve_online_url(self._online, self.store.root)
        answer = answer_directly(loaded, request, online=online, version=version, now=moment).answer
        places = {item: place for place, item in enumerate(loaded.items.column("item").to_pylist())}
        rows = [places.get(item) for item in answer.ids]
        items = loaded.items.take(rows) if None not in rows else None
        return Ranking(answer.ids, answer.scores, answer.unknown, answer.removed or [], items, answer.reason or "")

    @contextmanager
    def serve(self, *, port: int = 0, progress: Progress | None = None) -> Iterator[str]:
        """Serve the deployed versions on this machine for the length of a block.

        Parameters
        ----------
        port
            The gateway's port; 0: any free port.
        progress
            Called with a line on each event of serving.

        Yields
        ------
        str
            The gateway's address.

        Raises
        ------
        NotFoundError
            Nothing is deployed.

        Examples
        --------
        >>> with project.serve() as address, endcap.Client(address, "trial", timeout=10) as client:
        ...     client.rank(shopper="s1", items=[], k=3).variant
        'stable'
        """
        from importlib.metadata import entry_points

        from endcap.project.local_run import share_online_address

        serving = entry_points(group="endcap.server")["serving"].load()
        show = progress or self._progress or (lambda line: None)
        name = self.recommender.name
        with (
            share_online_address(self._online),
            serving(self.store, name, port=port, listener=lambda event: show(str(event))) as address,
        ):
            yield address

    def versions(self) -> Versions:
        """List the recommender's versions in the registry, oldest first.

        Returns
        -------
        Versions
            The versions; empty if nothing was registered.

        Raises
        ------
        UserError, TransientError
            The registry's address is wrong, or the registry does not answer.

        Examples
        --------
        >>> [version.version for version in project.versions()]
        ['1']
        """
        from endcap.registry import open_registry

        return Versions(open_registry(self.registry or None, self.store).list_versions(self.recommender.name))

    def experiments(self) -> pd.DataFrame:
        """List the runs of the recommender's experiment in MLflow, newest first.

        Each training is a run, whether it was judged or not, and so is each trial of a search.

        Returns
        -------
        pandas.DataFrame
            A row a run. Columns: `run`, `started` (UTC), `status`, then parameters (`param.…`), metrics (`metric.…`)
            and tags (`tag.…`).

        Raises
        ------
        UserError, TransientError
            The registry's address is wrong, or the registry does not answer.

        Examples
        --------
        >>> "metric.mrr_at_20" in project.experiments().columns
        True
        """
        from endcap.registry import open_registry
        from endcap.registry.experiments import read_experiment_table

        return read_experiment_table(open_registry(self.registry or None, self.store), self.recommender.name)

    def runs(self, limit: int = 20) -> Runs:
        """List the recommender's runs of pipelines, newest first.

        Parameters
        ----------
        limit
            The most runs to list.

        Returns
        -------
        Runs
            The runs.

        Examples
        --------
        >>> runs = project.runs(limit=5)
        >>> len(runs) <= 5
        True
        """
        from endcap.runs import list_runs

        return Runs(list_runs(self.store, self.recommender.name, limit=limit))

    def put(self, data: Any, name: str) -> str:
        """Upload a file, a folder or a frame into the store.

        Parameters
        ----------
        data
            A path, or a frame (pandas, Polars, Arrow, or a stream of Arrow batches), which is written as Parquet.
        name
            The name in the store, such as ``logs/2026-03-02.csv``. What has the name already is replaced.

        Returns
        -------
        str
            The address. A shop's spec takes it as the `path` of a source.

        Raises
        ------
        UserError
            The name is invalid, or the data are neither a path nor a frame.

        Examples
        --------
        >>> address = project.put(project.query("SELECT 1 AS a"), "tables/ones")
        >>> address.endswith("/data/tables/ones.parquet")
        True
        """
        from endcap.project.frames import put_data

        return put_data(self.store, data, name)

    def get(self, address: str, to: str | Path) -> Path:
        """Download a file or a folder that `put` uploaded, or an artifact.

        Parameters
        ----------
        address
            The file's or folder's name or address, or the artifact's address.
        to
            Where the copy goes. In an existing folder, the copy keeps its own name.

        Returns
        -------
        pathlib.Path
            The copy.

        Raises
        ------
        NotFoundError
            The store has nothing of this name or address.
        UserError
            The target exists already.

        Examples
        --------
        >>> address = project.put(project.query("SELECT 1 AS a"), "tables/ones")
        >>> project.get(address, folder / "ones.parquet").name
        'ones.parquet'
        """
        from endcap.store.files import get

        return get(self.store, address, Path(to))

    def query(self, sql: str, *, snapshot: Input = None, dataset: Input = None) -> pa.Table:
        """Query the tables of a snapshot and a dataset with DuckDB's SQL.

        Parameters
        ----------
        sql
            The query.
        snapshot, dataset
            What `ingest` and `features` made; None: what this project made last, or else the shop's newest.

        Returns
        -------
        pyarrow.Table
            The result.

        Raises
        ------
        UserError
            DuckDB refuses the query.
        NotFoundError
            There is no snapshot yet.

        Examples
        --------
        >>> project.query("SELECT count(*) AS events FROM events")["events"][0].as_py()
        55339
        """
        from endcap.events.query import query

        addresses = {
            name: self._resolve_input(name, value) if value is not None else self._latest.get(name)
            for name, value in (("snapshot", snapshot), ("dataset", dataset))
        }
        return query(sql, self.store, shop=self.shop.name, snapshot=addresses["snapshot"], dataset=addresses["dataset"])

    def _package(self, package: Input, version: str) -> LoadedPackage:
        from endcap.registry import open_registry
        from endcap.registry.package import load_package

        if package is not None or (not version and "package" in self._latest):
            address = self._resolve_input("package", package)
        else:
            registry, name = open_registry(self.registry or None, self.store), self.recommender.name
            registered = registry.get_version(name, version) if version else registry.find_champion(name)
            if registered is None:
                raise NotFoundError(
                    f"{name} has no champion, and this project has made no package; call project.refit() first",
                    code="project.nothing-to-rank-by",
                    recommender=name,
                )
            address = registered.package
        if self._loaded_package is None or self._loaded_package[0] != address:
            self._loaded_package = address, load_package(self.store.fetch(address, verify=True))
        return self._loaded_package[1]
