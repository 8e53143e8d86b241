"""Settings in groups that can also be given, changed and read by the names of the single fields."""

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from rsis_tf.config.checks import fitting


class Grouped:
    """Base class of a frozen dataclass in which some fields, its groups, are dataclasses themselves.

    A field's name occurs in one group only, so the constructor takes groups and single fields alike. Both lines below
    make the same settings; a field given beside its group replaces the value in the group.

    ```python
    TrainConfig(epochs=5, learning_rate=1e-3)
    TrainConfig(epochs=5, optimization=OptimizerConfig(learning_rate=1e-3))
    ```

    A subclass is declared with `@dataclasses.dataclass(frozen=True, kw_only=True, init=False)`, and every field of it
    has a default.

    Attributes:
        earlier_names: name of a field in earlier versions → its name today. Both are accepted.
    """

    earlier_names: ClassVar[Mapping[str, str]] = {}

    def __init__(self, **settings: Any) -> None:
        unknown = sorted(set(settings) - self.accepted_names())
        if unknown:
            raise TypeError(f"{type(self).__name__} has no setting of this name. Received: {', '.join(unknown)}")
        settings = self.translated(settings)
        groups = self.groups()
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            value = settings.get(field.name, default)
            if field.name in groups:
                fitting(groups[field.name], value, field.name)
                names = [member.name for member in dataclasses.fields(groups[field.name])]
                value = dataclasses.replace(value, **{name: settings[name] for name in names if name in settings})
            object.__setattr__(self, field.name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Checks the fields that belong to no group."""

    @classmethod
    @functools.cache
    def groups(cls) -> dict[str, type]:
        """Returns the name and the class of every group."""
        hints = typing.get_type_hints(cls)
        names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        return {name: hints[name] for name in names if dataclasses.is_dataclass(hints[name])}

    @classmethod
    def names(cls) -> frozenset[str]:
        """Returns the names of all single fields: those of the groups, and those that belong to no group."""
        groups = cls.groups()
        own = {field.name for field in dataclasses.fields(cls)} - groups.keys()  # type: ignore[arg-type]
        return frozenset(own.union(*({field.name for field in dataclasses.fields(group)} for group in groups.values())))

    @classmethod
    def accepted_names(cls) -> frozenset[str]:
        """Returns every name that the constructor takes."""
        return cls.names() | cls.groups().keys() | cls.earlier_names.keys()

    @classmethod
    def translated(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the settings with today's names in place of earlier ones."""
        return {cls.earlier_names.get(name, name): value for name, value in settings.items()}

    def changed(self, **settings: Any) -> Self:
        """Returns a copy with other values in some fields, which are named as in the constructor."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return type(self)(
            **{**{field.name: getattr(self, field.name) for field in fields}, **self.translated(settings)}
        )

    def flat(self) -> dict[str, Any]:
        """Returns all single fields by name, without the groups."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        for name in self.groups():
            group = values.pop(name)
            values |= {field.name: getattr(group, field.name) for field in dataclasses.fields(group)}
        return values

    if not typing.TYPE_CHECKING:
        # Code written before there were groups reads `config.learning_rate`. A type checker asks for the group.
        def __getattr__(self, name: str) -> Any:
            name = self.earlier_names.get(name, name)
            for group, cls in self.groups().items():
                if name in cls.__dataclass_fields__:
                    return getattr(object.__getattribute__(self, group), name)
            if name in self.__dataclass_fields__:
                return object.__getattribute__(self, name)
            raise AttributeError(f"{type(self).__name__} has no setting of this name. Received: {name}")
