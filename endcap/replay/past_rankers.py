"""Rankers as they were: the package of a version, with the rules that held then."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from endcap.errors import IntegrityError, NotFoundError, UserError
from endcap.lineage import find_tombstone
from endcap.pseudonyms import Pseudonymiser
from endcap.ranking import Ranker
from endcap.registry import Registry
from endcap.registry.package import LoadedPackage, load_package
from endcap.replay.reasons import FORGOTTEN, KEY_DIFFERS, PACKAGE_GONE, RULES_GONE
from endcap.rules import Catalogue
from endcap.samples import SampledRequest, read_catalogue
from endcap.store import Store

MOST = 8
"""Packages, catalogues and rankers that are kept in memory."""
THREADS = 1
"""Threads of a ranking, as `endcap serve` and the chart start a predictor."""
Loaded = TypeVar("Loaded")


class MissingPastError(Exception):
    """What a ranking was made with is missing. reason: a name of `endcap.replay.reasons`; detail: what it is."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class PastRankers:
    """Loads what answered sampled requests.

    Parameters
    ----------
    recommender
        The recommender.
    registry, store
        Where its versions and their packages are.
    samples
        The address of the samples, beside which the rules lie that held.
    pseudonymiser
        Makes the pseudonyms of the customers that models know. None: there is no key.
    """

    def __init__(
        self, recommender: str, registry: Registry, store: Store, samples: str, pseudonymiser: Pseudonymiser | None
    ) -> None:
        self._recommender, self._registry, self._store, self._samples = recommender, registry, store, samples
        self._pseudonymiser = pseudonymiser
        self._packages: OrderedDict[str, LoadedPackage | MissingPastError] = OrderedDict()
        self._catalogues: OrderedDict[str, Catalogue | MissingPastError] = OrderedDict()
        self._rankers: OrderedDict[tuple[str, str], Ranker | MissingPastError] = OrderedDict()

    def get_package(self, version: str) -> LoadedPackage:
        """Return a version's package, with the customers that its model knows under their pseudonyms.

        Raises
        ------
        MissingPastError
            The version or its package is gone, or this release cannot load it.
        """
        return _remember(self._packages, version, lambda: self._load_package(version))

    def get_ranker(self, version: str, catalogue: str) -> Ranker:
        """Return the ranker of a version with the rules of a catalogue.

        Parameters
        ----------
        version
            The version.
        catalogue
            The catalogue's version; empty: the package's own rules.

        Raises
        ------
        MissingPastError
            The package or the catalogue is gone.
        """
        return _remember(self._rankers, (version, catalogue), lambda: self._make_ranker(version, catalogue))

    def get_catalogue(self, version: str) -> Catalogue:
        """Return a catalogue by its version. Raises MissingPastError if it is gone."""
        return _remember(self._catalogues, version, lambda: self._read_catalogue(version))

    def check_key(self, sample: SampledRequest) -> None:
        """Raise MissingPastError if the answer may depend on a customer whose pseudonym cannot be matched."""
        package = self.get_package(sample.version)
        if sample.customer is None or not package.customers:
            return
        here = "" if self._pseudonymiser is None else self._pseudonymiser.key_id
        if sample.pseudonym_key != here:
            raise MissingPastError(KEY_DIFFERS, f"key {sample.pseudonym_key}, here {here or 'none'}")

    def _load_package(self, version: str) -> LoadedPackage:
        try:
            address = self._registry.get_version(self._recommender, version).package
            package = load_package(self._store.fetch(address, verify=True))
        except (NotFoundError, IntegrityError, UserError) as error:
            reason = KEY_DIFFERS if error.code.startswith("pseudonyms.") else PACKAGE_GONE
            if error.code == "store.not-found" and find_tombstone(self._store, str(error.fields["address"])):
                reason = FORGOTTEN
            raise MissingPastError(reason, f"{error} [{error.code}]") from error
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(THREADS)
        package.ranker.prepare()
        return package

    def _make_ranker(self, version: str, catalogue: str) -> Ranker:
        package = self.get_package(version)
        ranker = package.ranker
        if package.customers and self._pseudonymiser is not None:
            pseudonymise = self._pseudonymiser.pseudonymise
            ranker = ranker.with_customers({pseudonymise(id_): index for id_, index in package.customers.items()})
        return ranker.with_catalogue(self.get_catalogue(catalogue)) if catalogue else ranker

    def _read_catalogue(self, version: str) -> Catalogue:
        try:
            catalogue = read_catalogue(self._samples, self._recommender, version)
        except IntegrityError as error:
            raise MissingPastError(RULES_GONE, f"{error} [{error.code}]") from error
        if catalogue is None:
            raise MissingPastError(RULES_GONE, f"catalogue {version}")
        return catalogue


Key = TypeVar("Key")


def _remember(cache: OrderedDict[Key, Loaded | MissingPastError], key: Key, load: Callable[[], Loaded]) -> Loaded:
    """Return what is cached under a key, or load it; a failure is remembered too. Raises MissingPastError."""
    if key not in cache:
        try:
            cache[key] = load()
        except MissingPastError as error:
            cache[key] = error
        while len(cache) > MOST:
            cache.popitem(last=False)
    cache.move_to_end(key)
    value = cache[key]
    if isinstance(value, MissingPastError):
        raise value
    return value
