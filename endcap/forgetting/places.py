"""The places that hold shoppers, or may: each is registered here, with what it holds or why it holds none.

`tests/forgetting/test_places.py` compares the table with the kinds of artifacts, of documents and of files that Endcap
writes. A place that is not registered fails it.
"""

from __future__ import annotations

ARTIFACTS = {
    "parsed": "rows of the log and of tables",
    "snapshots": "the table of customers, and bad rows",
    "coded": "ids of a day's customers",
    "datasets": "ids of customers",
    "descriptions": "counts, which name customers that match nothing",
    "trained": "ids that a model knows",
    "fits": "ids that a model knows",
    "recipes": "ids that a model knows",
    "refitted": "ids that a model knows",
    "packages": "ids that a model knows, and an example of a request",
    "baselines": "no customers: popularity of items",
    "verdicts": "metrics and counts",
    "comparisons": "metrics and counts",
    "reports": "examples of bad rows",
    "recommendations": "lists of customers",
    "tables": "what a statement of the shop's own selects",
}
"""Kinds of artifacts, and what of shoppers they may hold. All are searched, and removed where a customer is found."""

DOCUMENTS = {
    "runs": "an error may quote a row: it is taken out of the record",
    "manifest": "searched with its artifact",
    "package": "searched with its artifact",
    "catalogue": "no shoppers: rules, items and a blacklist of items",
    "deployments": "no shoppers: versions and shares",
    "rollouts": "no shoppers: counts, sums and decisions",
    "schedules": "no shoppers: runs and data versions",
    "replays": "no shoppers: counts by reason, and ids of rankings",
    "ingests": "no shoppers: keys",
    "forgotten": "salted hashes of who is forgotten, by which ingest leaves them out",
    "tombstones": "no shoppers: names of artifacts and requests",
    "source-indexes": "no shoppers: digests of the shop's own files",
    "recipe-faults": "no shoppers: why a fit failed",
    "specs": "no shoppers: settings",
    "searches": "no shoppers: trials",
    "places": "no shoppers: addresses",
}
"""Kinds of documents, and what of shoppers they may hold."""

ONLINE = {
    "e": "events of customers and of their sessions: deleted",
    "s": "what they own, and who shares a session's id: deleted",
    "t": "no shoppers: which version of a table is published",
    "v": "rows of customers (`features/customers`, `lists`): deleted. Other tables are of items",
}
"""Kinds of keys of the online store, as `endcap.online.redis` names them, and what of shoppers they hold."""

INTAKE = {
    "events": "what customers did: files are replaced by others without their rows",
    "impressions": "what customers were shown, of which rollouts count exposures: as above",
    "orders": "what customers bought: as above",
}
"""Kinds of the intake's files."""

ELSEWHERE = {
    "sources": "the shop's own log and tables: they are yours. Ingest leaves the rows out from now on",
    "mlflow": "the report, which may quote a row: it is taken out; beside it settings and metrics",
    "samples": "request samples: files are replaced by others without the customer's rows",
    "segments": "the intake's open files: they are sealed within minutes; then call again",
    "exposures": "no shoppers on disk: rollouts keep sums, and read the intake's impressions",
    "access-log": "no ids: pseudonyms of the gateway's own key, in files that the newest runs replace",
}
"""Places outside of the store's artifacts and documents."""
