"""The online store: recent events, what customers own, published rows and lists."""

from endcap.online.base import OnlineStore, RecentEvent

__all__ = ["OnlineStore", "RecentEvent"]
