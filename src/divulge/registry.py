"""Finding attacks, defenses, models and probes: by the files of a room, and by Python entry points."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from divulge import settings
from divulge.errors import BadInputError

T = TypeVar("T")


class Registry(Generic[T]):
    """Every concrete subclass of `base` that carries a `name` and lives under `package` or an entry point.

    Adding an entry is adding a file to the package; third parties use the entry-point group `divulge.<kind>`.
    """

    def __init__(self, kind: str, package: str, base: type[T]) -> None:
        self.kind = kind
        self.package = package
        self.base = base

    @cached_property
    def classes(self) -> dict[str, type[T]]:
        """The registered classes by name, sorted."""
        found: dict[str, type[T]] = {}
        for cls in self._discover():
            name = vars(cls).get("name")
            if not name:
                continue
            if found.setdefault(name, cls) is not cls:
                raise BadInputError(
                    f"two {self.kind} are called {name!r}: {found[name].__module__} and {cls.__module__}. Rename one."
                )
        return dict(sorted(found.items()))

    def _discover(self) -> Iterator[type[T]]:
        package = importlib.import_module(self.package)
        for info in pkgutil.walk_packages(package.__path__, self.package + "."):
            for value in vars(importlib.import_module(info.name)).values():
                if isinstance(value, type) and issubclass(value, self.base) and value.__module__ == info.name:
                    yield value
        for point in entry_points(group=f"divulge.{self.kind}"):
            yield point.load()

    def __getitem__(self, name: str) -> type[T]:
        """The class called `name`.

        Raises:
            BadInputError: no such name; the nearest is named.
        """
        if name in self.classes:
            return self.classes[name]
        near = difflib.get_close_matches(name, self.classes, n=1, cutoff=0.4)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise BadInputError(f"no {self.kind} called {name!r}{hint}. Known: {', '.join(self.classes)}.")

    def kind_of(self, base: type) -> dict[str, Any]:
        """The registered subclasses of `base` by name."""
        return {name: cls for name, cls in self.classes.items() if issubclass(cls, base)}

    def make(self, spec: str | Mapping[str, Any], *, where: str = "") -> T:
        """Make an entry from its name, or from a mapping `{"name": ..., **settings}` as TOML writes it."""
        if isinstance(spec, str):
            spec = {"name": spec}
        values = dict(spec)
        name = values.pop("name", None)
        if not isinstance(name, str):
            raise BadInputError(f"{where or self.kind}: a 'name' is needed, one of {', '.join(self.classes)}.")
        return settings.build(self[name], values, where=where)

    def summaries(self) -> dict[str, str]:
        """Name to the first line of its docstring."""
        return {name: (cls.__doc__ or "").strip().splitlines()[0] for name, cls in self.classes.items()}
