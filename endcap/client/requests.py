"""The requests that both clients send: addresses, headers and bodies."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from endcap import ids
from endcap.errors import UserError

SHOPPER, REQUEST_ID = "x-endcap-shopper", "x-request-id"
_KEY = "x-endcap-key"
_LONGEST_REQUEST_ID = 256
"""The same as in `serving/request_ids.py`, which a client's machine may lack."""
_REQUEST_IDS = f"printable ASCII of 1 to {_LONGEST_REQUEST_ID} characters"

Json = dict[str, Any]
Record = Mapping[str, Any]


class GatewayRequests:
    """Builds the requests to one gateway.

    Parameters
    ----------
    url
        The gateway's address.
    recommender
        The recommender's name.
    """

    def __init__(self, url: str, recommender: str) -> None:
        self.url = url.rstrip("/")
        self.recommender = recommender

    def build_ranking(
        self, instances: Sequence[Record], shopper: str | None, request_id: str | None
    ) -> tuple[str, Json]:
        """Build a request for rankings.

        Parameters
        ----------
        instances
            The ranking requests.
        shopper
            The shopper's id, which decides on the variant.
        request_id
            The request's id; None: a random one.

        Returns
        -------
        tuple of str and dict
            The address to post to, and the arguments ``json`` and ``headers`` of HTTPX.

        Raises
        ------
        UserError
            No header can hold an id (`client.id-malformed`).
        """
        headers = {REQUEST_ID: _encode_request_id(request_id or str(uuid.uuid4()))}
        headers |= {SHOPPER: _encode_shopper(shopper)} if shopper else {}
        path = f"{self.url}/{self.recommender}/v1/models/{self.recommender}:predict"
        return path, {"json": {"instances": [dict(instance) for instance in instances]}, "headers": headers}

    def build_report(self, kind: str, records: Sequence[Record], request_id: str | None) -> tuple[str, Json]:
        """Build a request that reports records. A record without an id gets a random one.

        Parameters
        ----------
        kind
            ``events``, ``impressions`` or ``orders``.
        records
            The records.
        request_id
            The request's id; None: the service chooses one.

        Returns
        -------
        tuple of str and dict
            As in `build_ranking`.

        Raises
        ------
        UserError
            No header can hold the request's id (`client.id-malformed`).
        """
        # The ids are set once for all tries: the intake then ignores a record that it got in an earlier try.
        identified = [{"id": str(uuid.uuid4()), **record} for record in records]
        headers = {REQUEST_ID: _encode_request_id(request_id)} if request_id else {}
        return f"{self.url}/v1/{kind}", {"json": identified, "headers": headers}


def make_credentials(key: str, token: str) -> dict[str, str]:
    """Make the headers that identify the caller; none without a key and a token."""
    return {**({_KEY: key} if key else {}), **({"authorization": f"Bearer {token}"} if token else {})}


def drop_absent(record: Record) -> Json:
    """Return the record without the keys whose value is None."""
    return {key: value for key, value in record.items() if value is not None}


def _encode_shopper(shopper: str) -> bytes:
    """Encode a shopper's id as a header, whose bytes the gateway hashes. Raises UserError if no header can hold it."""
    fault: str | None = ids.find_id_fault(shopper)
    # HTTP drops blanks at a header's ends, so that two shoppers would become one.
    if fault is None and shopper != shopper.strip(" "):
        fault = "blank-at-end"
    if fault is not None:
        raise _make_id_error("shopper", fault, f"{ids.ALLOWED}, and without blanks at its ends")
    return shopper.encode()


def _encode_request_id(request_id: str) -> bytes:
    """Encode a request id as a header. Raises UserError if the service would replace the id by another one."""
    if len(request_id) > _LONGEST_REQUEST_ID:
        raise _make_id_error("request_id", "too-long", _REQUEST_IDS)
    if not (request_id.isascii() and request_id.isprintable()) or request_id != request_id.strip():
        raise _make_id_error("request_id", "not-printable", _REQUEST_IDS)
    return request_id.encode()


def _make_id_error(at: str, fault: str, allowed: str) -> UserError:
    return UserError(
        f"{at}: found a text that no header can hold ({fault}); allowed: {allowed}",
        code="client.id-malformed",
        at=at,
        fault=fault,
        allowed=allowed,
    )
