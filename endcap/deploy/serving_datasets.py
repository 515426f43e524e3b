"""Which datasets the versions that serve were trained on."""

from __future__ import annotations

from endcap.deploy.state import find_state, list_deployed
from endcap.errors import EndcapError
from endcap.store import Store


def find_served_datasets(shop: str, store: Store) -> list[str]:
    """Find the datasets of a shop that serving versions were trained on, of all recommenders.

    Returns
    -------
    list of str
        Addresses, each once. A state that cannot be read, as one of a newer release, is left out.
    """
    datasets: dict[str, None] = {}
    for name in list_deployed(store):
        try:
            state = find_state(name, store)
            for target in [] if state is None else state.targets:
                dataset = str(store.manifest(target.package)["facts"]["dataset"])
                if dataset.split("/")[-2] == shop:
                    datasets[dataset] = None
        except (EndcapError, KeyError, IndexError):
            continue
    return list(datasets)
