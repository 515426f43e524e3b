"""What is kept under which name, where more than one room must know it."""

from __future__ import annotations

OWNED = "owned"
"""The set of what a customer, or a session, bought."""
CUSTOMERS = "customers"
"""The set, of nobody's session of an id, of the customers who have sessions of that id."""


def name_customer_owner(customer: str) -> str:
    """The owner of what a customer did."""
    return f"customer:{customer}"


def name_session_owner(session: str, customer: str | None) -> str:
    """The owner of what was done in a customer's session (None: nobody's)."""
    return f"session:{make_session_id(session, customer)}"


def list_owners(session: str | None, customer: str | None) -> list[str]:
    """The owners of an event."""
    known = [] if customer is None else [name_customer_owner(customer)]
    return known if session is None else [*known, name_session_owner(session, customer)]


def make_session_id(session: str, customer: str | None) -> str:
    """The id of a customer's session (None: nobody's), since customers may share the ids of sessions.

    As `sessions.parquet` of a dataset has it, and with `|` as ids of several columns have it
    (`endcap.sources.values.ids`).
    """
    return f"{_escape(customer or '')}|{_escape(session)}"


def _escape(id_: str) -> str:
    return id_.replace("\\", "\\\\").replace("|", "\\|")


def name_feature_table(of: str, dataset: str) -> str:
    """The table of a dataset's item or customer rows. of: `items` or `customers`; dataset: its address or its key.

    A predictor reads that of the dataset which its model was trained on.
    """
    return f"features/{of}/{dataset.rsplit('/', 1)[-1]}"
