"""Packs sequences of any length into rows of one width, nearly without padding, for self-attention."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from endcap.neural.sequences import Ints, SequencePieces

PADDING = -1


@dataclass(frozen=True)
class PackedRows:
    """Pieces side by side in rows of one width.

    Attributes
    ----------
    events
        int64 [r, w], positions in the flat arrays, 0 under padding.
    segments
        int64 [r, w], the number of an entry's piece in its row; `PADDING` for an entry without a piece.
    """

    events: Ints
    segments: Ints

    def __len__(self) -> int:
        return len(self.events)


def pack_rows(pieces: SequencePieces, width: int, multiple: int, rng: np.random.Generator) -> PackedRows:
    """Pack all pieces in random order, each whole in one row.

    Parameters
    ----------
    pieces
        The pieces.
    width
        Events of a row.
    multiple
        Rows of padding make the number of rows a multiple of this.
    rng
        Draws the order.

    Raises
    ------
    ValueError
        A piece is longer than the width.
    """
    if pieces.lengths.max(initial=0) > width:
        raise ValueError(f"a piece of {pieces.lengths.max()} events does not fit into rows of {width}")
    order = rng.permutation(len(pieces.first))
    lengths = pieces.lengths[order]
    begin = np.cumsum(lengths) - lengths
    heads = _find_row_heads(begin, lengths, width)
    row = np.repeat(np.arange(len(heads)), np.diff(np.append(heads, len(order))))
    count = -(-len(heads) // multiple) * multiple
    events = np.zeros((count, width), dtype=np.int64)
    segments = np.full((count, width), PADDING, dtype=np.int64)
    # The entry of each event: its row, and how far it is from the row's first event in the stream of all pieces.
    stream = np.arange(lengths.sum())
    place = np.repeat(row, lengths), stream - np.repeat(begin[heads][row], lengths)
    events[place] = stream + np.repeat(pieces.first[order] - begin, lengths)
    segments[place] = np.repeat(np.arange(len(order)) - heads[row], lengths)
    return PackedRows(events, segments)


def _find_row_heads(begin: Ints, lengths: Ints, width: int) -> Ints:
    """Return the first piece of each row, if each row takes pieces in their order while they fit."""
    following = np.searchsorted(begin + lengths, begin + width, side="right").tolist()
    heads, piece = [], 0
    while piece < len(following):
        heads.append(piece)
        piece = following[piece]
    return np.array(heads, dtype=np.int64)
