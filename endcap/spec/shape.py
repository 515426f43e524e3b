"""The types of spec fields, split into type, annotations and members."""

from __future__ import annotations

import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Shape:
    """A field's type without its annotations.

    Attributes
    ----------
    annotation
        The type.
    metadata
        Its annotations.
    discriminator
        The key whose value tells the members of a union apart; None if there is none.
    """

    annotation: Any
    metadata: tuple[Any, ...] = ()
    discriminator: str | None = None

    @classmethod
    def of(cls, annotation: Any, metadata: Iterable[Any] = (), discriminator: Any = None) -> Shape:
        """Make the shape of a type."""
        metadata = list(metadata)
        while get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            for extra in more:
                metadata += extra.metadata if isinstance(extra, FieldInfo) else [extra]
                discriminator = (extra.discriminator if isinstance(extra, FieldInfo) else None) or discriminator
        members = [member for member in get_args(annotation) if member is not types.NoneType]
        if is_union(annotation) and len(members) == 1:
            return cls.of(members[0], metadata, discriminator)
        return cls(annotation, tuple(metadata), discriminator)

    @classmethod
    def of_field(cls, field: FieldInfo) -> Shape:
        """Make the shape of a model's field."""
        return cls.of(field.annotation, field.metadata, field.discriminator)

    @property
    def members(self) -> list[Shape]:
        """The members of a union, without None; empty for other types."""
        if not is_union(self.annotation):
            return []
        return [Shape.of(member) for member in get_args(self.annotation) if member is not types.NoneType]

    @property
    def model(self) -> type[BaseModel] | None:
        """The type, if it is a model; else None."""
        is_model = isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel)
        return self.annotation if is_model else None

    @property
    def keys(self) -> dict[str, FieldInfo]:
        """A model's fields, by their keys in a document."""
        assert self.model is not None
        return {field.alias or name: field for name, field in self.model.model_fields.items()}

    def member_for(self, value: Any) -> Shape | None:
        """Find the member of a union of models that fits a map: by the discriminator, or by the most common keys."""
        models = [member for member in self.members if member.model is not None]
        if not isinstance(value, dict) or not models or len(models) < len(self.members):
            return None
        if self.discriminator is not None:
            return next(
                (member for member in models if member.tag(self.discriminator) == value.get(self.discriminator)), None
            )
        return max(models, key=lambda member: len(member.keys.keys() & value.keys()))

    def tag(self, discriminator: str) -> str:
        """Return the value of the discriminator that means this model."""
        assert self.model is not None
        return str(get_args(self.model.model_fields[discriminator].annotation)[0])


def is_union(annotation: Any) -> bool:
    """Return whether a type is a union."""
    return get_origin(annotation) in (Union, types.UnionType)
