"""Candidates that a file names for each customer, for test protocols whose authors publish them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.errors import DataError
from endcap.features.queries import QueryTargets
from endcap.features.sessions import Ints, Sessions
from endcap.features.vocabulary import UNKNOWN, Vocabulary
from endcap.models import NO_ITEM
from endcap.pseudonyms import read_pseudonymiser
from endcap.sources.files import SourceFile, find_files
from endcap.sources.formats.read import read_rows
from endcap.sources.formats.rows import reject_marked
from endcap.sources.pseudonymised_rows import map_ids
from endcap.spec.evaluation import Evaluation, GivenNegatives
from endcap.spec.source import SourceSpec

Items = NDArray[np.int32]


@dataclass(frozen=True)
class GivenCandidates:
    """Named items, in compressed rows: customer c has items[offsets[c]:offsets[c + 1]].

    `items` is int32 [rows] and `unknown` counts rows of the test's customers whose items the vocabulary lacks.
    """

    items: Items
    offsets: Ints
    unknown: int = 0
    draws: int = 1

    def select(self, chosen: QueryTargets) -> Items:
        """Return the items of each prediction's customer, without the target: int32 [1, b, most], see
        `SampledCandidates.select`."""
        customers = chosen.sessions.customers[chosen.owner]
        starts, counts = self.offsets[customers], np.diff(self.offsets)[customers]
        column = np.arange(counts.max(initial=0))
        inside = column < counts[:, None]
        items = np.where(inside, self.items[np.where(inside, starts[:, None] + column, 0)], NO_ITEM)
        items[items == chosen.targets[:, None]] = NO_ITEM
        return items.astype(np.int32)[None]

    def count(self, predictions: QueryTargets) -> Ints:
        """Count how many items each target competes with: int64 [p]."""
        customers, counts = predictions.sessions.customers[predictions.owner], np.diff(self.offsets)
        width = 1 + int(max(self.items.max(initial=0), predictions.targets.max(initial=0)))
        named = np.repeat(np.arange(len(counts)), counts) * width + self.items
        sizes: Ints = counts[customers] - np.isin(customers.astype(np.int64) * width + predictions.targets, named)
        return sizes


def find_given_files(rules: GivenNegatives) -> list[SourceFile]:
    """Find the files that the spec names. Raises DataError if there is none, or none that can be read."""
    return find_files(SourceSpec(path=rules.path)).files


def digest_given_files(evaluation: Evaluation) -> list[str]:
    """Return digests of the files that figures depend on beside the dataset. Raises DataError as `find_given_files`
    does."""
    negatives = evaluation.negatives
    return [file.digest() for file in find_given_files(negatives)] if isinstance(negatives, GivenNegatives) else []


def read_given_candidates(
    rules: GivenNegatives, test: Sessions, customers: pa.Array, vocabulary: Vocabulary
) -> GivenCandidates:
    """Read the files that name candidates.

    Items that the vocabulary lacks cannot be ranked: they are left out, and counted.

    Parameters
    ----------
    rules
        The spec's `evaluation.negatives`.
    test
        The test sessions.
    customers
        Ids of the dataset's customers, by their number.
    vocabulary
        Of the view.

    Raises
    ------
    DataError
        If a row is bad, a column is missing, or a test session's customer has no item.
    """
    tables = [_read_columns(file, rules) for file in find_given_files(rules)]
    owners = _match_pseudonyms(pa.concat_arrays([columns[0] for columns in tables]), customers)
    owner = pc.index_in(owners, value_set=customers).fill_null(UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int64)
    item = vocabulary.indices(pa.concat_arrays([columns[1] for columns in tables]).to_pylist())
    known = (owner != UNKNOWN) & (item != UNKNOWN)
    pairs = np.unique(np.column_stack([owner[known], item[known]]), axis=0)
    counts = np.bincount(pairs[:, 0], minlength=len(customers))
    # Customers unknown to the dataset have the number -1: the place behind all others.
    without = int((np.append(counts, 0)[test.customers] == 0).sum())
    if without:
        raise DataError(
            f"{rules.path}: {without:,} of {len(test):,} test sessions are of customers without an item of the "
            "vocabulary in it. Give each customer's items, or set evaluation.negatives to {count: 99}",
            code="evaluation.items-missing",
            path=rules.path,
            without=without,
            sessions=len(test),
        )
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    unknown = int((np.isin(owner, test.customers) & (item == UNKNOWN)).sum())
    return GivenCandidates(pairs[:, 1].astype(np.int32), offsets, unknown)


def _match_pseudonyms(owners: pa.Array, customers: pa.Array) -> pa.Array:
    """Return the file's customers as the dataset names them: by pseudonyms, if it has those of this process's key."""
    pseudonymiser = read_pseudonymiser()
    if pseudonymiser is None or not len(customers) or not pseudonymiser.recognise(customers[0].as_py()):
        return owners
    return map_ids(pseudonymiser, owners)


def _read_columns(file: SourceFile, rules: GivenNegatives) -> tuple[pa.Array, pa.Array]:
    """Return a file's customers and items, as text."""
    import duckdb

    columns = [rules.customer, rules.item]
    with duckdb.connect() as connection:
        rows = read_rows(file, SourceSpec(path=rules.path), columns, connection)
        names = [] if rows is None else list(rows.names)
        if missing := [name for name in columns if name not in names]:
            known = ", ".join(names) or "none"
            raise DataError(
                f"{file.name}: no column {missing[0]!r}; there are: {known}. See evaluation.negatives",
                code="evaluation.column-missing",
                path=file.name,
                column=missing[0],
                found=names,
            )
        assert rows is not None
        batches = [reject_marked(batch, [names.index(name) for name in columns]) for batch in rows.batches]
    if rejects := [reject for batch in batches for reject in batch.rejects]:
        first = rejects[0]
        raise DataError(
            f"{file.name}, line {first.line}: {first.reason}",
            code="evaluation.row-malformed",
            path=file.name,
            line=first.line,
            reason=first.reason,
        )
    tables = [batch.table.select([names.index(name) for name in columns]) for batch in batches if len(batch.lines)]
    both = [pa.chunked_array([chunk for t in tables for chunk in t.column(n).chunks], pa.string()) for n in (0, 1)]
    return both[0].combine_chunks(), both[1].combine_chunks()
