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
from endcap.online.guarded_store import GuardedRows, GuardedStore, ShopperData
from endcap.online.key_names import (
    CUSTOMERS,
    OWNED,
    list_owners,
    name_customer_owner,
    name_feature_table,
    name_session_owner,
)
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
    """The online store of a shop at ``redis://``, ``rediss://`` (with TLS) or ``sqlite:///path/of/a.file``.

    timeout: seconds that the server may take for an answer or a connection, or that SQLite waits for another writer.
    The default is a ranking's; give who writes and may wait some seconds. Nothing is connected to yet.
    Raises UserError where the address is none.
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
        f"online store {shown}: not an address of one; allowed: redis://HOST:PORT, rediss://HOST:PORT (with TLS), "
        "sqlite:///PATH/online.sqlite",
        code="online.address-malformed",
        found=shown,
        allowed=["redis", "rediss", "sqlite"],
    )


def get_default_online_url(store_root: str) -> str | None:
    """The laptop's online store: a file in the store's folder. None for a bucket."""
    scheme, separator, place = store_root.partition("://")
    if not separator:
        scheme, place = "file", store_root
    return f"sqlite://{Path(place).resolve() / FILE}" if scheme == "file" else None


def resolve_online_url(address: str = "", store_root: str = "") -> str | None:
    """Which online store is meant: the one given (`--online`), else the environment's, else the store's default.

    None where that is `none`, or there is none.
    """
    resolved = address or read_variable(ONLINE) or (get_default_online_url(store_root) if store_root else None)
    return None if resolved == NONE else resolved
