"""Lines of progress that say more than their words: how much of the whole is done, or what to look at."""

from __future__ import annotations

from typing import Any, ClassVar, Self


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


class Notice(str):
    """A line of progress that people should read after the step has ended too. It begins with `MARK`.

    Examples
    --------
    >>> str(Notice("2 files are left out", files=["a.zip", "b.zip"]))
    '! 2 files are left out'
    """

    __slots__ = ("fields",)
    MARK: ClassVar[str] = "! "
    fields: dict[str, Any]

    def __new__(cls, text: str, **fields: Any) -> Self:
        """fields: what the line is about, as JSON values."""
        self = super().__new__(cls, cls.MARK + text)
        self.fields = fields
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        return (self.removeprefix(self.MARK),), self.fields
