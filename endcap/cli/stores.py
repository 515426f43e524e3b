"""Open stores and registries that must exist. If one does not, the error says where others are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from endcap.errors import NotFoundError
from endcap.spec.environments import VARIABLES
from endcap.store import Store, open_store

if TYPE_CHECKING:
    from endcap.ab.controller import AbController
    from endcap.messages import Message, Messenger
    from endcap.registry import Registry
    from endcap.rollout.controller import RolloutController
    from endcap.rollout.messages import RolloutMessage


def open_existing_store(url: str) -> Store:
    """Open the store at an address. Raises NotFoundError if there is none."""
    try:
        return open_store(url, create=False)
    except NotFoundError as error:
        if error.code != "store.absent":
            raise
        raise _make_absent_error(url) from None


def open_existing_registry(registry: str, store: Store) -> Registry:
    """Open the registry at an address, or the store's own if the address is empty. Raises NotFoundError if there is
    none."""
    from endcap.registry import find_registry, get_default_uri

    known = find_registry(registry, store)
    if known is None:
        if not registry:
            get_default_uri(store)  # says that a bucket has none
        place = registry or f"the store {store.root}"
        raise NotFoundError(
            f"there is no registry at {place}, and none was made; `endcap run SPEC` makes one with the first version",
            code="cli.no-registry",
            registry=registry,
            store=store.root,
        )
    return known


def _make_absent_error(url: str) -> NotFoundError:
    """Make the error that names the missing store, and one in a folder above."""
    place = Path(url.removeprefix("file://")).expanduser()
    above = [] if place.is_absolute() else [folder / place for folder in Path.cwd().parents]
    near = next((str(folder) for folder in above if folder.is_dir()), "")
    variable = next(iter(VARIABLES["store"]))
    where = f"There is one at {near}: --store {near}" if near else f"Name yours by --store or {variable}"
    return NotFoundError(
        f"there is no store at {place.resolve()}, and none was made. {where}. `endcap run SPEC` makes one",
        code="cli.no-store",
        store=str(place.resolve()),
        near=near,
    )


def open_controller(recommender: str, store_url: str, registry: str) -> RolloutController:
    """Make the controller of a recommender's rollouts, whose messages go where the environment says.

    The command ends at most `endcap.messages.messenger.CLOSE_WITHIN` seconds later because of them.
    """
    from endcap.rollout.controller import RolloutController

    store = open_existing_store(store_url)
    open_existing_registry(registry, store)
    messenger = _open_messenger(store)

    def send(message: RolloutMessage) -> None:
        messenger.send(message.to_message(store))

    return RolloutController(store, recommender, registry or None, notify=[send])


def open_ab_controller(recommender: str, store_url: str, registry: str) -> AbController:
    """Make the controller of a recommender's A/B tests; see `open_controller`."""
    from endcap.ab.controller import AbController

    store = open_existing_store(store_url)
    open_existing_registry(registry, store)
    messenger = _open_messenger(store)

    def send(message: Message) -> None:
        messenger.send(message)

    return AbController(store, recommender, registry or None, notify=[send])


def _open_messenger(store: Store) -> Messenger:
    """Make what sends messages until the command's end."""
    from endcap.messages import Messenger

    messenger = Messenger(store)

    def close() -> None:
        if problem := messenger.close():
            click.echo(f"a message is not delivered yet: {problem}", err=True)

    click.get_current_context().call_on_close(close)
    return messenger
