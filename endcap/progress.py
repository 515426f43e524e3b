"""Lines of progress that say how much of the whole is done."""

from __future__ import annotations

from typing import Self


class Advance(str):
    """A line of progress, and how much of the whole it stands for.

    Examples
    --------
    >>> line = Advance("epoch 3 of 10: loss 4.21", done=3, whole=10)
    >>> line.done / line.whole
    0.3
    """

    __slots__ = ("done", "whole")
    done: int
    whole: int

    def __new__(cls, line: str, *, done: int, whole: int) -> Self:
        """done, whole: in whatever the step counts, such as epochs, rows or customers."""
        self = super().__new__(cls, line)
        self.done, self.whole = done, whole
        return self

    # Lines cross processes: a new one is not made without its keyword arguments.
    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, int]]:
        return (str(self),), {"done": self.done, "whole": self.whole}
