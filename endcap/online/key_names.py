"""What is kept under which name, where more than one room must know it."""

from __future__ import annotations

OWNED = "owned"
"""The set of what a customer, or a session, bought."""
CUSTOMERS = "customers"
"""The set, of nobody's session of an id, of the customers who have sessions of that id."""


def name_customer_owner(customer: str) -> str:
    """Name the owner of a customer's events."""
    return f"customer:{customer}"


def name_session_owner(session: str, customer: str | None) -> str:
    """Name the owner of the events of a session. customer: the session's customer; None: an unknown one."""
    return f"session:{make_session_id(session, customer)}"


def make_session_prefix(customer: str) -> str:
    """Make the beginning of the names of the owners of a customer's sessions. No other customer's begin so."""
    return f"session:{make_session_id('', customer)}"


def list_owners(session: str | None, customer: str | None) -> list[str]:
    """List the owners of an event."""
    owners = [] if customer is None else [name_customer_owner(customer)]
    return owners if session is None else [*owners, name_session_owner(session, customer)]


def make_session_id(session: str, customer: str | None) -> str:
    """Make the id of a customer's session, because several customers may use the same session id.

    Parameters
    ----------
    session
        The session's id.
    customer
        The customer's id; None: an unknown customer.

    Returns
    -------
    str
        The id as in a dataset's `sessions.parquet`, joined by ``|`` like ids of several columns
        (`endcap.sources.values.ids`).
    """
    return f"{_escape(customer or '')}|{_escape(session)}"


def _escape(id_: str) -> str:
    return id_.replace("\\", "\\\\").replace("|", "\\|")


def name_feature_table(of: str, dataset: str) -> str:
    """Name the table of a dataset's items or customers.

    A predictor reads the table of the dataset that its model learnt from.

    Parameters
    ----------
    of
        ``items`` or ``customers``.
    dataset
        The dataset's address or key.
    """
    return f"features/{of}/{dataset.rsplit('/', 1)[-1]}"
