"""The methods of a project that bring a model to shoppers: they register, deploy, and make lists in advance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from endcap.project.base import Input, ProjectBase
from endcap.project.results import Deployed, Lists, Registered

if TYPE_CHECKING:
    from endcap.rollout.controller import RolloutController


class ReleaseMethods(ProjectBase):
    """The steps `register`, `deploy` and `recommend`."""

    def register(self, package: Input = None, *, verdict: Input = None) -> Registered:
        """Register a package as a version. The gate approves it, or it waits for a person, as the spec says.

        Parameters
        ----------
        package
            What `refit` made.
        verdict
            The verdict that the version is registered for; None: the one that the package was first made for.

        Returns
        -------
        Registered
            The version. A package that was registered before keeps its version.

        Raises
        ------
        UserError
            The gate failed or was undecided, or there is no package yet.
        TransientError
            The registry does not answer.

        Examples
        --------
        >>> version = project.register()
        >>> version.version.state
        'approved'
        """
        from endcap.registry import describe_version, open_registry, register

        taken, registry = self._resolve_input("package", package), self.registry or None
        name = self.recommender.name
        judged = self._read_facts(taken)["verdict"] if verdict is None else self._resolve_input("verdict", verdict)
        with self._show_step("register") as progress:
            version = register(self.recommender, taken, judged, self.store, registry, run=self._run, progress=progress)
        self._remember("version", version)
        registered = open_registry(registry, self.store).get_version(name, version)
        return Registered(registered, describe_version(name, version, self.store, registry))

    def deploy(self, version: Registered | str | None = None, *, namespace: str = "") -> Deployed:
        """State that a version should serve: a champion serves everyone, a challenger the canary's share.

        If the spec has a section `rollout`, a challenger gets no share here: a rollout begins, or is asked for.

        Parameters
        ----------
        version
            What `register` made, or its number.
        namespace
            The namespace of the cluster that serves. Its services are changed to match, or its rollout controller is
            asked. If it is empty, only the wanted state is written, which `endcap serve` follows.

        Returns
        -------
        Deployed
            The wanted state, and what happened in the cluster.

        Raises
        ------
        UserError, NotFoundError
            There is no such version, or it may not serve.
        ClusterError
            The cluster refuses, or the version does not become ready.

        Examples
        --------
        >>> deployed = project.deploy(project.register())
        >>> deployed.state.stable.version
        '1'
        """
        from endcap.ab.controller import AbController
        from endcap.deploy import deploy, describe, find_state, read_state
        from endcap.deploy.pins import read_pin
        from endcap.rollout.controller import RolloutController

        number = version.number if isinstance(version, Registered) else self._resolve_input("version", version)
        name, outcome = self.recommender.name, ""
        with self._show_step("deploy") as progress:
            controller = RolloutController(self.store, name, self.registry or None)
            # A step that a killed process left half done would let traffic and champion differ.
            controller.finish()
            AbController(self.store, name, self.registry or None).finish()
            pinned = read_pin(name, self.store)
            if pinned:
                progress(f"what is served is pinned by {pinned}: version {number} waits until endcap deploy --unpin")
            elif namespace and self._is_challenger(number):
                return Deployed(find_state(name, self.store), self._ask_for_rollout(number, namespace), outcome)
            state = find_state(name, self.store)
            is_tested = state is not None and state.ab is not None
            if is_tested:
                begin = f". Then: endcap deploy {name} --version {number}" if self.recommender.rollout is None else ""
                progress(f"an A/B test runs: version {number} waits until it ends{begin}")
            if pinned or is_tested or (not namespace and self._offer_to_rollout(number, controller, progress)):
                state = find_state(name, self.store)
            else:
                state = deploy(self.recommender, number, self.store, self.registry or None)
            served = [] if state is None else [target.version for target in state.answering]
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

    def _is_challenger(self, number: str) -> bool:
        """Tell whether a version waits for a rollout by its spec: it is not the champion, and was not rejected."""
        from endcap.registry import open_registry

        if self.recommender.rollout is None:
            return False
        registry = open_registry(self.registry or None, self.store)
        champion = registry.find_champion(self.recommender.name)
        is_other = champion is not None and champion.version != number
        return is_other and registry.get_version(self.recommender.name, number).state != "rejected"

    def _ask_for_rollout(self, number: str, namespace: str) -> str:
        """Ask the controller of a cluster for a version's rollout; returns a line. A person may still approve it."""
        from endcap.cluster import connect
        from endcap.rollout.resource import ask_for_rollout

        resource = ask_for_rollout(connect(), self.recommender.name, number, namespace)
        return f"ModelRollout {resource} in namespace {namespace} asks for the rollout of version {number}"

    def _offer_to_rollout(self, number: str, controller: RolloutController, progress: Callable[[str], None]) -> bool:
        """Hand a challenger to the rollout that its spec asks for; False if the version is to be deployed at once."""
        from endcap.registry import open_registry
        from endcap.rollout.version_queue import VersionQueue

        name, registry_uri = self.recommender.name, self.registry or None
        if not self._is_challenger(number):
            return False
        if open_registry(registry_uri, self.store).get_version(name, number).state != "approved":
            return False
        queue = VersionQueue(controller)
        entry = queue.offer(number)
        if entry is None and queue.was_rolled_out(number):
            again = f"endcap rollout start {name} {number}"
            progress(f"version {number} was rolled out or tested before. To do so again: {again}")
        elif entry is None:
            progress(f"version {number} waits for the end of the rollout, or A/B test, that runs")
        else:
            state = entry.after
            progress(f"rollout of version {state.version}: {state.phase}, {state.share:.2%} of the shoppers")
        return True

    def recommend(
        self, dataset: Input = None, *, version: str = "", customers: str = "", publish: bool = True
    ) -> Lists:
        """Make every customer's list by the versions that serve, and publish the lists in the online store.

        Parameters
        ----------
        dataset
            The dataset whose customers get lists; None: what this project made last.
        version
            The only registered version to use; empty: all versions that serve, the champion first.
        customers
            A file with the customers' ids; empty: all customers.
        publish
            False: the lists are made and not published.

        Returns
        -------
        Lists
            The lists of each version.

        Raises
        ------
        UserError
            There is no dataset yet.
        NotFoundError
            No version serves.
        DataError
            The file of customers is wrong, or no customer gets a list.
        OnlineStoreError
            The online store does not answer.

        Examples
        --------
        >>> lists = project.recommend(publish=False)
        >>> lists.to_arrow().column_names
        ['customer', 'items', 'scores', 'model_version', 'made']
        """
        from endcap.batch import PATIENCE, ListRequest, describe_lists, publish_lists, recommend
        from endcap.online import open_online, resolve_online_url

        taken = self._resolve_input("dataset", dataset)
        request = ListRequest(dataset=taken, version=version or None, customers=customers or None)
        with self._show_step("recommend") as progress:
            version_lists = recommend(
                self.recommender, self.shop, self.store, self.registry or None, request=request, progress=progress
            )
            address = resolve_online_url(self._online, self.store.root) if publish else None
            if address is None:
                progress("no online store: the lists are not published")
            else:
                with open_online(address, shop=self.shop.name, timeout=PATIENCE) as online:
                    publish_lists(self.recommender, version_lists, self.store, online, progress=progress)
        self._remember("recommendations", version_lists[0].address)
        return Lists(
            version_lists, address is not None, describe_lists(version_lists, published=address is not None), self.store
        )
