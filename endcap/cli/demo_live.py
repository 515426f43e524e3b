"""The demo's last part: events, orders and rules take effect at once, without a training or a restart.

At the end, it makes a list for every customer ahead of time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from endcap.client import Client, ServedRanking
from endcap.errors import EndcapError
from endcap.spec.load import Loaded
from endcap.store import Store

if TYPE_CHECKING:
    from endcap.online import OnlineStore

VISITOR = "a-new-visitor"
PATIENCE = 20.0
"""The seconds that the demo waits for a ranking to change. Events take about a second, rules about five."""
K = 5


@dataclass(frozen=True)
class LivingShop:
    """A shop whose shoppers and rules change. product: returns an item's line. folder: has the demo's files."""

    client: Client
    loaded: Loaded
    store: Store
    folder: Path
    product: Callable[[str], str]

    def show_visit(self, session: list[str]) -> None:
        """Play the visit of a new shopper who looks at the items of `session`. Then make all customers' lists."""
        first = self._look_around(session)
        after_order = self._buy(first)
        self._forbid(after_order)
        self._list_ahead()

    def _ask(self, **more: Any) -> ServedRanking:
        return self.client.rank(shopper=VISITOR, customer=VISITOR, k=K, **more)

    def _look_around(self, session: list[str]) -> ServedRanking:
        before = self._ask()
        taken = self.client.events([{"item": item, "customer": VISITOR, "type": "view"} for item in session])
        click.echo(f"\n  A new shopper looks at {len(session)} items; the intake has written {taken.accepted} events:")
        for item in session:
            click.echo(f"      {self.product(item)}")
        ranking = self._wait_until(lambda answer: answer.ids != before.ids)
        self._show("the ranking for the customer's id alone has changed", ranking)
        impressions = [{"ranking_id": ranking.id, "item": item, "position": n} for n, item in enumerate(ranking.ids)]
        self.client.impressions(impressions)
        return ranking

    def _buy(self, ranking: ServedRanking) -> ServedRanking:
        bought = ranking.ids[0]
        self.client.orders([{"customer": VISITOR, "items": [{"item": bought, "quantity": 1}]}])
        after = self._wait_until(lambda answer: bought not in answer.ids)
        self._show(f"{self._get_name(bought)} is bought, and no longer shown to its owner", after)
        return after

    def _forbid(self, ranking: ServedRanking) -> None:
        from endcap.rules import publish_catalogue
        from endcap.rules.read import read_catalogue

        forbidden = ranking.ids[0]
        with (self.folder / "blacklist.csv").open("a") as blacklist:
            blacklist.write(f"{forbidden}\n")
        with self._open_online(timeout=5.0) as online:
            publish_catalogue(online, read_catalogue(self.loaded.shop, lambda line: None))
        begun = time.monotonic()
        after = self._wait_until(lambda answer: forbidden not in answer.ids)
        seconds = time.monotonic() - begun
        self._show(
            f"{self._get_name(forbidden)} is put on the blacklist, and hidden from everyone {seconds:.0f} s later",
            after,
        )

    def _list_ahead(self) -> None:
        from endcap.batch import newest_dataset
        from endcap.project import Project

        begun = time.monotonic()
        project = Project(
            self.store, recommender=self.loaded.recommender, shop=self.loaded.shop, progress=lambda line: None
        )
        lists = project.recommend(newest_dataset(self.loaded.shop.name, self.store))
        heading = click.style("Ahead of time", bold=True)
        click.echo(f"\n  {heading}, in {time.monotonic() - begun:.0f} s: {lists.summary}")

    def _open_online(self, timeout: float) -> OnlineStore:
        """Open the online store that predictors and intake use too."""
        from endcap.online import open_online, resolve_online_url

        address = resolve_online_url(store_root=self.store.root)
        if address is None:
            raise EndcapError(
                "the demo needs an online store, but ENDCAP_ONLINE is none. Unset it", code="cli.no-online-store"
            )
        return open_online(address, shop=self.loaded.shop.name, timeout=timeout)

    def _wait_until(self, is_reached: Callable[[ServedRanking], bool]) -> ServedRanking:
        deadline = time.monotonic() + PATIENCE
        while not is_reached(ranking := self._ask()):
            if time.monotonic() > deadline:
                raise EndcapError(
                    f"the ranking did not change within {PATIENCE:.0f} s. The logs of predictors and intake are "
                    f"below {self.store.root.removeprefix('file://')}/.work/serving",
                    code="cli.demo-not-followed",
                    seconds=PATIENCE,
                )
            time.sleep(0.1)
        return ranking

    def _get_name(self, item: str) -> str:
        return self.product(item).split("  ")[0].strip()

    def _show(self, what: str, ranking: ServedRanking) -> None:
        click.echo(f"    {what}")
        for place, item in enumerate(ranking.ids, start=1):
            click.echo(f"    {place}. {self.product(item)}")
