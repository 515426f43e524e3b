"""The online store: recent events, what customers own, published rows and lists."""

from __future__ import annotations

from pathlib import Path

from endcap.errors import UserError
from endcap.online.base import (
    NO_ITEM,
    KeyFault,
    OnlineQuery,
    OnlineResult,
    OnlineStore,
    RecentEvent,
    TableKeys,
    make_unreadable_error,
)
from endcap.online.guarded_store import GuardedRows, GuardedStore
from endcap.online.key_names import (
    CUSTOMERS,
    OWNED,
    list_owners,
    name_customer_owner,
    name_feature_table,
    name_session_owner,
)
from endcap.online.shopper_reader import ShopperData, ShopperReader
from endcap.online.visits import Visits
from endcap.secrets import read_variable

ONLINE = "ENDCAP_ONLINE"
"""The environment variable that holds the store's address."""
NONE = "none"
"""In the place of an address: no online store, not even the default one."""
FILE = "online.sqlite"

__all__ = [
    "CUSTOMERS",
    "NONE",
    "NO_ITEM",
    "ONLINE",
    "OWNED",
    "GuardedRows",
    "GuardedStore",
    "KeyFault",
    "OnlineQuery",
    "OnlineResult",
    "OnlineStore",
    "RecentEvent",
    "ShopperData",
    "ShopperReader",
    "TableKeys",
    "Visits",
    "get_default_online_url",
    "list_owners",
    "make_unreadable_error",
    "name_customer_owner",
    "name_feature_table",
    "name_session_owner",
    "open_online",
    "resolve_online_url",
]


def open_online(url: str, *, shop: str, timeout: float = 0.05) -> OnlineStore:
    """Open the online store of a shop. Nothing is connected to before the first call.

    Parameters
    ----------
    url
        ``redis://HOST:PORT``, ``rediss://HOST:PORT`` (with TLS), or ``sqlite:///path/of/a.file``.
    shop
        The shop's name. Shops that share a store do not see each other's data.
    timeout
        Seconds that the server may take for an answer or a connection, or that SQLite waits for another writer. The
        default suits a ranking; a writer that may wait should take some seconds.

    Returns
    -------
    OnlineStore
        The store. It is a context manager that closes its connections.

    Raises
    ------
    UserError
        The address is malformed.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite" and rest.strip("/"):
        from endcap.online.sqlite import SQLiteStore

        return SQLiteStore(Path("/" + rest.lstrip("/") if rest.startswith("/") else rest), shop, timeout)
    if scheme in ("redis", "rediss") and separator:
        from endcap.online.redis import RedisStore

        return RedisStore(url, shop, timeout)
    shown = f"{scheme}://…" if separator else repr(url)
    raise UserError(
        f"online store {shown}: this is not the address of an online store; allowed: redis://HOST:PORT, "
        "rediss://HOST:PORT (with TLS), sqlite:///PATH/online.sqlite",
        code="online.address-malformed",
        found=shown,
        allowed=["redis", "rediss", "sqlite"],
    )


def get_default_online_url(store_root: str) -> str | None:
    """Return the address of the default online store, a file in the store's folder; None if the store is a bucket."""
    scheme, separator, place = store_root.partition("://")
    if not separator:
        scheme, place = "file", store_root
    return f"sqlite://{Path(place).resolve() / FILE}" if scheme == "file" else None


def resolve_online_url(address: str = "", store_root: str = "") -> str | None:
    """Choose the online store's address: the given one (`--online`), else ENDCAP_ONLINE's, else the store's default.

    Returns None if the address is `none`, or if there is no address at all.
    """
    resolved = address or read_variable(ONLINE) or (get_default_online_url(store_root) if store_root else None)
    return None if resolved == NONE else resolved
