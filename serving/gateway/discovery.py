"""What the xDS service answers its Envoy, given the versions that Envoy holds.

Envoy asks for clusters and for routes separately, in no order, and REST answers have no order either. A route to a
cluster that Envoy does not have is answered 503. Two rules prevent this:

- Envoy gets routes only after it has taken their clusters. The version in its next question says so.
- A cluster stays until Envoy has taken routes that do not name it, and a minute longer. Envoy routes a request when its
  head is there, but sends it to the cluster when its body is.

Until then the answer is "not modified". The name of a cluster stands for one address, so no cluster ever changes.

Envoy asks one question of each kind at a time. So its next question says what became of the last answer.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from endcap_serving.gateway import routes
from endcap_serving.gateway.access.access import Access
from endcap_serving.gateway.access.filters import EXTENSIONS, build_extension, build_key_clusters
from endcap_serving.gateway.envoy_tls import SDS_FOLDER
from endcap_serving.gateway.routes import Json, Split, Upstream

Splits = Mapping[str, Split]
"""The split of each recommender, by name."""
LINGER = 60.0
"""Seconds that a cluster stays after the last route to it. A request may not take so long (serving.timeout)."""


@dataclass(frozen=True)
class _ResourceVersion:
    """A version of a resource, and the clusters in it: those that it defines or, for routes, those that it names."""

    version: str
    clusters: frozenset[Upstream]


_NOTHING = _ResourceVersion("", frozenset())


class _ResourceKind:
    """One kind of resource: the version that Envoy holds, and the one that it may have taken since the last answer.

    unknown: the clusters of a version that an earlier run of this service sent.
    """

    def __init__(self, unknown: frozenset[Upstream]) -> None:
        self._unknown = unknown
        self._held = self._sent = _ResourceVersion("", unknown)
        self.refused_version = ""
        """The version that Envoy was sent last and has not taken, as far as its last question says; empty: none."""

    def note_version(self, version: str) -> None:
        """Note the version in a question. It says what became of the answer before."""
        self.refused_version = "" if version == self._sent.version else self._sent.version
        if not version:
            self._held = _NOTHING
        elif version == self._sent.version:
            self._held = self._sent
        elif version != self._held.version:
            # An earlier run of this service sent it.
            self._held = _ResourceVersion(version, self._unknown)
        self._sent = self._held

    def answer(self, resources: list[Json], clusters: Iterable[Upstream]) -> Json | None:
        """Answer the question that was noted last. None: Envoy has all of it."""
        text = json.dumps(resources, sort_keys=True).encode()
        self._sent = _ResourceVersion(hashlib.sha256(text).hexdigest()[:16], frozenset(clusters))
        if self._sent.version == self._held.version:
            self._held = self._sent
            return None
        return routes.build_response(resources, self._sent.version)

    @property
    def version(self) -> str:
        """The version that Envoy holds."""
        return self._held.version

    @property
    def certain_clusters(self) -> frozenset[Upstream]:
        """The clusters that Envoy has, whether or not it takes the last answer."""
        return self._held.clusters & self._sent.clusters

    @property
    def possible_clusters(self) -> frozenset[Upstream]:
        """The clusters that Envoy has, or has if it takes the last answer."""
        return self._held.clusters | self._sent.clusters


class DiscoveryResponder:
    """Answers one Envoy's questions.

    Ask it from one thread. Another thread may set `splits` and read `in_use`.

    Parameters
    ----------
    earlier_upstreams
        Upstreams that an Envoy may still route to because of an earlier run of this service.
    clock
        Returns seconds, which never go back.
    intake
        The service that takes events, if any.
    secrets
        The folder in which Envoy finds certificates (`clusters.build_clusters`).
    access
        Returns who may do what now. None: the policy is not known yet, so Envoy gets nothing.
    """

    def __init__(
        self,
        earlier_upstreams: Iterable[Upstream] = (),
        clock: Callable[[], float] = time.monotonic,
        intake: Upstream | None = None,
        secrets: Path = SDS_FOLDER,
        access: Callable[[], Access | None] = Access,
    ) -> None:
        self._secrets = secrets
        self._intake, self._access = intake, access
        self.splits: Splits | None = None
        """The splits to route by. None: not known yet, so a fresh Envoy waits and an older one goes on."""
        # If an earlier run sent Envoy's clusters, no cluster is known to be there. If it sent the routes, they may name
        # all earlier upstreams.
        self._clusters = _ResourceKind(frozenset())
        self._routes = _ResourceKind(frozenset(earlier_upstreams))
        self._extensions = {name: _ResourceKind(frozenset()) for name in EXTENSIONS}
        self._clock = clock
        self._last_named: dict[Upstream, float] = {}

    def answer_clusters(self, version: str) -> Json | None:
        """Answer a question for clusters.

        Parameters
        ----------
        version
            The version that Envoy holds; empty: none.

        Returns
        -------
        dict or None
            A ``DiscoveryResponse``. None: not modified.
        """
        self._clusters.note_version(version)
        access = self._access()
        if self.splits is None or access is None:
            return None
        now = self._clock()
        last_named = {**self._last_named, **dict.fromkeys([*self._list_needed(), *self._routes.possible_clusters], now)}
        # Replaced as a whole, because another thread may read it.
        self._last_named = {upstream: last for upstream, last in last_named.items() if now - last < LINGER}
        upstreams = sorted(self._last_named, key=lambda upstream: upstream.name)
        clusters = [*routes.build_clusters(upstreams, self._secrets), *build_key_clusters(access)]
        return self._clusters.answer(clusters, upstreams)

    def answer_routes(self, version: str) -> Json | None:
        """Answer a question for routes.

        Parameters
        ----------
        version
            The version that Envoy holds; empty: none.

        Returns
        -------
        dict or None
            A ``DiscoveryResponse``. None: not modified, or Envoy must take clusters first.
        """
        self._routes.note_version(version)
        needed, access = self._list_needed(), self._access()
        if self.splits is None or access is None or not self._clusters.certain_clusters.issuperset(needed):
            return None
        return self._routes.answer(routes.build_routes(self.splits, self._intake, access), needed)

    def answer_extension(self, name: str, version: str) -> Json | None:
        """Answer a question for a filter's settings.

        Parameters
        ----------
        name
            The filter, one of `EXTENSIONS`.
        version
            The version that Envoy holds; empty: none.

        Returns
        -------
        dict or None
            A ``DiscoveryResponse``. None: not modified, or the policy is not known yet.
        """
        kind = self._extensions[name]
        kind.note_version(version)
        access = self._access()
        return None if access is None else kind.answer([build_extension(name, access)], ())

    @property
    def in_use(self) -> list[Upstream]:
        """All upstreams that Envoy may send requests to, now or after its next questions."""
        return list(dict.fromkeys([*self._list_needed(), *self._last_named, *self._routes.possible_clusters]))

    @property
    def routes_version(self) -> str:
        """The version of the routes that Envoy holds."""
        return self._routes.version

    @property
    def refused_version(self) -> str:
        """The version of a resource that Envoy was sent and has not taken; empty: it took all."""
        kinds = [self._clusters, self._routes, *self._extensions.values()]
        return next((kind.refused_version for kind in kinds if kind.refused_version), "")

    def _list_needed(self) -> list[Upstream]:
        """List the upstreams that the routes of now name."""
        if self.splits is None:
            return []
        return [*routes.list_upstreams(self.splits.values()), *([self._intake] if self._intake else [])]
