"""A dataset as Croissant describes data for machine learning: its files, tables and columns as JSON-LD.

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec.html, version 1.0.
"""

from __future__ import annotations

import posixpath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.store import Store, get_content_key

Json = dict[str, Any]
OWN_DATA = "All rights reserved"
"""The license of a shop's own data, unless its owner names another."""
_PARQUET = "application/x-parquet"
"""The name that readers of Croissant know."""
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context of the specification's first appendix: without it, readers know no term of Croissant's."""
_TABLES = {
    "events": "Events of the training part, in the order of sessions and times.",
    "test_events": "Events of the test part, if the log gives one.",
    "sessions": "Sessions of the training part, one a row.",
    "test_sessions": "Sessions of the test part, if the log gives one.",
    "items": "Items, with the shop's own columns.",
    "customers": "Customers, with the shop's own columns.",
    "owned": "Events that make an item a customer's.",
}
_COLUMNS = {
    ("events", "item"): "The number of a row of items, from 0.",
    ("events", "customer"): "The number of a row of customers, from 0; empty if nobody is known.",
    ("events", "session"): "The session's number.",
    ("events", "time"): "Milliseconds since 1970, UTC.",
    ("sessions", "id"): "The session's id in the log.",
    ("sessions", "session"): "The session's number.",
    ("sessions", "customer"): "The number of a row of customers, from 0; empty if nobody is known.",
    ("sessions", "start"): "The time of its first event: milliseconds since 1970, UTC.",
    ("sessions", "end"): "The time of its last event: milliseconds since 1970, UTC.",
    ("sessions", "events"): "How many events it has.",
    ("items", "item"): "The item's id in the log.",
    ("items", "events"): "How many events of the training part it has.",
    ("items", "first_seen"): "The time of its first event: milliseconds since 1970, UTC.",
    ("customers", "customer"): "The customer's id in the log.",
    ("customers", "events"): "How many events of the training part the customer has.",
}


def make_croissant(dataset: str, store: Store, *, license_: str = OWN_DATA, beside: str = "") -> Json:
    """Describe a dataset by Croissant 1.0.

    Parameters
    ----------
    dataset
        The dataset's address.
    store
        The store that holds it. The tables' files are fetched, because their columns are read.
    license_
        The license under which the shop gives the data to others, best the address of one of https://spdx.org/licenses.
    beside
        Kind and key of the artifact that keeps the description as a file. The dataset's files are named from there, so
        that the names are right after a store has moved. Empty: they are named by their places in the store.

    Returns
    -------
    dict
        JSON-LD. It is no part of the dataset and of no key.

    Raises
    ------
    NotFoundError
        If there is no such dataset.
    """
    manifest = store.manifest(dataset)
    address, facts, files = manifest["address"], manifest["facts"], manifest["files"]
    _, shop, key = get_content_key(address).split("/")
    tables = [name for name in files if name.endswith(".parquet")]
    folder = store.fetch(address, names=tables)
    place = posixpath.relpath(get_content_key(address), beside) if beside else address.removeprefix("file://")
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": shop,
        "description": (
            f"Sessions, events, items and customers of the shop {shop}: {facts['events']:,} events in "
            f"{facts['sessions']:,} sessions, of {facts['items']:,} items. Made by Endcap of {facts['snapshot']}."
        ),
        "license": license_,
        "url": place if beside else address,
        "creator": {"@type": "sc:Organization", "name": shop},
        "datePublished": manifest["created"],
        "version": f"1.0.0+{key}",
        "citeAs": f"{shop}, dataset {key}",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": f"{place}/{name}",
                "contentSize": f"{file['bytes']} B",
                "encodingFormat": _PARQUET if name in tables else "application/json",
                "sha256": file["sha256"],
            }
            for name, file in sorted(files.items())
        ],
        "recordSet": [_describe_table(name, pq.read_schema(folder / name)) for name in sorted(tables)],
    }


def _describe_table(file: str, schema: pa.Schema) -> Json:
    table = file.removesuffix(".parquet")
    return {
        "@type": "cr:RecordSet",
        "@id": table,
        "name": table,
        "description": _TABLES.get(table, f"The rows of {file}."),
        "field": [_describe_column(file, table, column) for column in schema],
    }


def _describe_column(file: str, table: str, column: pa.Field) -> Json:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    text = _COLUMNS.get((table.removeprefix("test_"), column.name), f"The column {column.name} of {table}.")
    return {
        "@type": "cr:Field",
        "@id": f"{table}/{column.name}",
        "name": column.name,
        "description": text,
        "dataType": _name_type(kind.value_type if is_list else kind),
        **({"repeated": True} if is_list else {}),
        "source": {"fileObject": {"@id": file}, "extract": {"column": column.name}},
    }


def _name_type(kind: pa.DataType) -> str:
    for test, name in (
        (pa.types.is_boolean, "sc:Boolean"),
        (pa.types.is_integer, "sc:Integer"),
        (pa.types.is_floating, "sc:Float"),
        (pa.types.is_decimal, "sc:Float"),
        (pa.types.is_timestamp, "sc:DateTime"),
        (pa.types.is_date, "sc:Date"),
    ):
        if test(kind):
            return name
    return "sc:Text"
