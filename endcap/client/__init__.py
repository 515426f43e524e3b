"""Clients that ask for rankings and report what shoppers did: ``endcap.Client`` and ``endcap.AsyncClient``.

Both keep their connections to the gateway open. They repeat a call that failed for a reason that may pass: no
connection, a broken connection, or the statuses 429, 502, 503 and 504. They wait between tries, longer each time and
with a random part, and stay within the call's time limit. Repeating is safe: rankings change nothing, and for a day the
intake ignores an event whose id it has already seen.
"""

from endcap.client.answers import RankedItem, Receipt, ServedRanking
from endcap.client.async_client import AsyncClient
from endcap.client.client import Client

__all__ = ["AsyncClient", "Client", "RankedItem", "Receipt", "ServedRanking"]
