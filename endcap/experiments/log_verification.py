"""A log computed again, and compared with what it holds, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from endcap.experiments.log_documents import Entry, Json, LogDocuments, Policy
from endcap.experiments.log_entry import encode
from endcap.store import fingerprint, get_release


def verify_log(
    documents: LogDocuments[Entry, Policy], compute_again: Callable[[str, Entry, Policy], Entry | None]
) -> int:
    """Compute every step of a log again (`DecisionLog.verify`).

    Parameters
    ----------
    documents
        The log.
    compute_again
        Returns what follows from an entry's state, evidence or command, by its policy, for a recommender; None if the
        entry lacks these.

    Returns
    -------
    int
        How many entries there are.

    Raises
    ------
    IntegrityError
        An entry is missing, or differs from what follows from its state, evidence and policy.
    """
    before: Json | None = None
    count = 0
    policies: dict[str, Policy] = {}
    for document in documents.read_all():
        policies |= _check_policies(documents, document["policies"])
        for content in document["entries"]:
            entry = documents.parse(content)
            if entry.number != count:
                raise documents.make_difference(count, f"the entry has the number {entry.number}")
            if content["before"] != before:
                raise documents.make_difference(count, "its state before is not the state after the entry before it")
            if entry.policy not in policies:
                raise documents.make_difference(count, f"no policy has the digest {entry.policy}")
            again = compute_again(documents.recommender, entry, policies[entry.policy])
            if again is None:
                raise documents.make_difference(count, "it lacks its state, evidence or command")
            if _encode_comparably(content) != _encode_comparably(again.to_json()):
                raise documents.make_difference(count, "another step follows from its state, evidence and policy")
            before, count = content["after"], count + 1
    return count


def _check_policies(documents: LogDocuments[Entry, Policy], policies: Mapping[str, Json]) -> dict[str, Policy]:
    for digest, policy in policies.items():
        if fingerprint(policy) != digest:
            raise documents.make_difference(None, f"the policy {digest} was changed")
    return {digest: documents.form.parse_policy(policy) for digest, policy in policies.items()}


def _encode_comparably(entry: Json) -> str:
    """Return an entry as text; one of another release without its sentence."""
    if entry["release"] == get_release() or entry["decision"] is None:
        return encode(entry)
    return encode({**entry, "decision": {**entry["decision"], "sentence": ""}})
