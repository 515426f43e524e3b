"""What the Envoy beside the xDS service is told next, given what it says that it holds.

Envoy asks for clusters and for routes separately, in no order, and REST answers are not ordered either. A route to a
cluster that Envoy does not have is answered 503. So routes that name a cluster are told only after Envoy has said (by
the version in its next question) that it has taken the cluster; and a cluster stays until Envoy has said that it has
taken routes that do not name it, and a minute longer: a request is routed when its head is there, and goes to the
cluster when its body is. Until then the answer is "not modified". The name of a cluster stands for one address, so a
cluster is never changed in its place.

Envoy asks one question of each kind at a time: with the next one it is known what became of the last answer.
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
from endcap_serving.gateway.envoy_tls import PLACE
from endcap_serving.gateway.routes import Json, Split, Upstream

Splits = Mapping[str, Split]
"""By recommender."""
LINGER = 60.0
"""Seconds that a cluster stays after the last route to it: more than a request may take (serving.timeout)."""


@dataclass(frozen=True)
class _ResourceVersion:
    """A version, and the clusters that it has (or, of routes, that it names)."""

    version: str
    clusters: frozenset[Upstream]


_NOTHING = _ResourceVersion("", frozenset())


class _ResourceKind:
    """One kind of resource: what Envoy holds for sure, and what it may hold since it was last answered."""

    def __init__(self, unknown: frozenset[Upstream]) -> None:
        self._unknown = unknown
        self._held = self._sent = _ResourceVersion("", unknown)
        self.refused = ""
        """The version that Envoy was sent last and has not taken, as far as its last question tells."""

    def hear(self, version: str) -> None:
        """Note the version in a question: the answers before it are settled."""
        self.refused = "" if version == self._sent.version else self._sent.version
        if not version:
            self._held = _NOTHING
        elif version == self._sent.version:
            self._held = self._sent
        elif version != self._held.version:
            # It was told by a service that ran here before.
            self._held = _ResourceVersion(version, self._unknown)
        self._sent = self._held

    def answer(self, resources: list[Json], clusters: Iterable[Upstream]) -> Json | None:
        """The answer to the question just heard; None where Envoy has it all."""
        text = json.dumps(resources, sort_keys=True).encode()
        self._sent = _ResourceVersion(hashlib.sha256(text).hexdigest()[:16], frozenset(clusters))
        if self._sent.version == self._held.version:
            self._held = self._sent
            return None
        return routes.build_response(resources, self._sent.version)

    @property
    def version(self) -> str:
        return self._held.version

    @property
    def certain(self) -> frozenset[Upstream]:
        return self._held.clusters & self._sent.clusters

    @property
    def possible(self) -> frozenset[Upstream]:
        return self._held.clusters | self._sent.clusters


class DiscoveryResponder:
    """Answers one Envoy, from one thread; `splits` may be set and `in_use` read from another.

    left_behind: what an Envoy that was told by an earlier run of this service may still route to. intake: who takes
    what happened, told with the first splits. access: who may do what now; None: not known yet, so that
    nothing is open. secrets: as `gateway.clusters` has it.
    """

    def __init__(
        self,
        left_behind: Iterable[Upstream] = (),
        clock: Callable[[], float] = time.monotonic,
        intake: Upstream | None = None,
        secrets: Path = PLACE,
        access: Callable[[], Access | None] = Access,
    ) -> None:
        self._secrets = secrets
        self._intake, self._access = intake, access
        self.splits: Splits | None = None
        """What is to be routed; None: not known yet, so that a fresh Envoy waits and an older one goes on."""
        # Of an unknown version of clusters none is known to be there; one of routes may name all that is left behind.
        self._clusters = _ResourceKind(frozenset())
        self._routes = _ResourceKind(frozenset(left_behind))
        self._extensions = {name: _ResourceKind(frozenset()) for name in EXTENSIONS}
        self._clock = clock
        self._last_named: dict[Upstream, float] = {}

    def clusters(self, version: str) -> Json | None:
        """The answer to who holds this version of the clusters; None: not modified."""
        self._clusters.hear(version)
        access = self._access()
        if self.splits is None or access is None:
            return None
        now = self._clock()
        last_named = {**self._last_named, **dict.fromkeys([*self._list_needed(), *self._routes.possible], now)}
        # Replaced as a whole, for who reads it from another thread.
        self._last_named = {upstream: last for upstream, last in last_named.items() if now - last < LINGER}
        named = sorted(self._last_named, key=lambda upstream: upstream.name)
        return self._clusters.answer([*routes.build_clusters(named, self._secrets), *build_key_clusters(access)], named)

    def routes(self, version: str) -> Json | None:
        """The answer to who holds this version of the routes; None: not modified, or clusters come first."""
        self._routes.hear(version)
        needed, access = self._list_needed(), self._access()
        if self.splits is None or access is None or not self._clusters.certain.issuperset(needed):
            return None
        return self._routes.answer(routes.build_routes(self.splits, self._intake, access), needed)

    def extension(self, name: str, version: str) -> Json | None:
        """The answer to who holds this version of a filter's settings; None: not modified, or not known yet."""
        kind = self._extensions[name]
        kind.hear(version)
        access = self._access()
        return None if access is None else kind.answer([build_extension(name, access)], ())

    @property
    def in_use(self) -> list[Upstream]:
        """All that Envoy may send requests to, and all that it is about to."""
        return list(dict.fromkeys([*self._list_needed(), *self._last_named, *self._routes.possible]))

    @property
    def routed(self) -> str:
        """The version of the routes that Envoy holds."""
        return self._routes.version

    @property
    def refused(self) -> str:
        """The version of a resource that Envoy was sent and has not taken; empty where it took all."""
        kinds = [self._clusters, self._routes, *self._extensions.values()]
        return next((kind.refused for kind in kinds if kind.refused), "")

    def _list_needed(self) -> list[Upstream]:
        if self.splits is None:
            return []
        return [*routes.list_upstreams(self.splits.values()), *([self._intake] if self._intake else [])]
