"""What the services of a shop keep of its customers: the online store, the intake's files, request samples."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from endcap.forgetting.scan import CustomerScan
from endcap.forgetting.written_files import forget_intake_files, forget_samples
from endcap.online import open_online, resolve_online_url
from endcap.samples.key_file import open_pseudonymiser
from endcap.store import Store

CUSTOMER_TABLES = ("features/customers/", "lists/")
"""The beginnings of the names of tables of the online store whose keys are ids of customers."""
PATIENCE = 30.0
"""Seconds that a call of the online store may take."""
_SQLITE, _FILE = "sqlite://", "file://"


@dataclass(frozen=True)
class Services:
    """Where a shop's services keep what they know of customers.

    Attributes
    ----------
    online
        The online store's address; empty: the default one; ``none``: there is none.
    intake
        The places that the intake seals its files to. Empty: that of `endcap serve`, if it is there.
    samples
        The places of request samples. Empty: that of `endcap serve`, if it is there.
    """

    online: str = ""
    intake: Sequence[str] = ()
    samples: Sequence[str] = ()


@dataclass(frozen=True)
class ServiceSearch:
    """Counts, or forgets, what services keep of customers of a shop.

    Attributes
    ----------
    services, store, shop
        Where they keep it; the store, and the shop's name.
    recommenders
        The recommenders of the shop.
    scan
        Whom to look for.
    """

    services: Services
    store: Store
    shop: str
    recommenders: Collection[str]
    scan: CustomerScan

    def forget_files(self, *, erase: bool) -> dict[str, int]:
        """Forget the customers in the intake's files and in samples. Returns the number of rows for each place."""
        customers = self.scan.customers
        counts = {
            address: forget_intake_files(address, customers, erase=erase)
            for address in self.services.intake or self._list_default("intake")
        }
        # On a laptop the samples have a key of their own.
        pseudonymiser = open_pseudonymiser(self.store)
        known = set(customers)
        if pseudonymiser is not None:
            known |= {pseudonymiser.pseudonymise(customer) for customer in customers}
        for address in self.services.samples or self._list_default("samples"):
            counts[address] = forget_samples(address, self.recommenders, known, erase=erase)
        return {address: count for address, count in counts.items() if count}

    def forget_online(self, *, erase: bool) -> int:
        """Forget the customers in the online store. Returns the number of events, members and rows."""
        url = resolve_online_url(self.services.online, self.store.root)
        if url is None or (url.startswith(_SQLITE) and not Path(url.removeprefix(_SQLITE)).exists()):
            return 0
        with open_online(url, shop=self.shop, timeout=PATIENCE) as online:
            return online.forget(self.scan.customers, CUSTOMER_TABLES, erase=erase)

    def find_open_segments(self) -> list[str]:
        """Find the intake's files on this machine that hold a customer and are not sealed yet."""
        if not self.store.root.startswith(_FILE):
            return []
        work = Path(self.store.root.removeprefix(_FILE)) / ".work" / "intake"
        files = (file for name in sorted(self.recommenders) for file in (work / name).glob("segments/*"))
        return [str(file) for file in files if file.is_file() and self.scan.is_in_bytes(file)]

    def _list_default(self, name: str) -> list[str]:
        """List the place below a store in a folder that `endcap serve` uses, if it is there."""
        place = Path(self.store.root.removeprefix(_FILE)) / name
        return [str(place)] if self.store.root.startswith(_FILE) and place.is_dir() else []
