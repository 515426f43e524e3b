"""The names of the reasons why items of an answer are fallbacks.

The service, its client and offline rankings share this list. A later release may add names, but none changes its
meaning."""

from __future__ import annotations

from typing import Final

NO_HISTORY: Final = "no-history"
UNKNOWN_CUSTOMER: Final = "unknown-customer"
UNKNOWN_SESSION: Final = "unknown-session"
UNKNOWN_ITEMS: Final = "unknown-items"
ONLINE_STORE_AWAY: Final = "online-store-away"
FEW_SCORES: Final = "few-scores"
UNKNOWN_CANDIDATES: Final = "unknown-candidates"
LIST_FILLED: Final = "list-filled"
NO_PREDICTOR: Final = "no-predictor"

REASONS: dict[str, str] = {
    NO_HISTORY: "there is nothing to go on: an empty session, or a known customer without events that count",
    UNKNOWN_CUSTOMER: "nothing is known of this customer",
    UNKNOWN_SESSION: "nothing is known of this session",
    UNKNOWN_ITEMS: "the model knows none of the session's items",
    ONLINE_STORE_AWAY: "the events are the online store's, which did not answer, or there is none",
    FEW_SCORES: "the model scores fewer of the items that may be listed than were asked for",
    UNKNOWN_CANDIDATES: "the model does not know these candidates",
    LIST_FILLED: "the customer's list of the last batch was filled up",
    NO_PREDICTOR: "no model answered: the list of popular items did",
}
"""What each reason means."""
