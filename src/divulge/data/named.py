"""A data set known by name: where it may lie on this machine, and what it must hold."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from divulge.data.cache import cache_root
from divulge.data.dataset import Dataset
from divulge.data.images import Size
from divulge.data.layouts import LAYOUTS, Layout, layout_of
from divulge.data.parts import require_part
from divulge.data.tables import Encoding
from divulge.errors import BadInputError, MissingDataError


@dataclass(frozen=True)
class NamedSet:
    """A data set known by name.

    Args:
        name: what a person types.
        summary: one line.
        counts: the numbers of records that each part may have: complete, and known subsets.
        columns: the columns of labels and what their values are called (empty for numbers); the first is the default
            target, the others are the attributes.
        license: what its owners allow.
        get: where to get it.
        put: what to put into its folder.
        folders: names its folder may have; its own name if left out.
        layouts: layouts of its own, tried before the general ones.
        elsewhere: a folder outside the data folders where it may lie.
        make: makes a part without any file, for a set that comes with a dependency.
        size: the height and width its pictures are brought to.
        channels: how its pictures are decoded; as they are if left out.
    """

    name: str
    summary: str
    counts: Mapping[str, tuple[int, ...]]
    columns: Mapping[str, tuple[str, ...]]
    license: str
    get: str = ""
    put: str = ""
    folders: tuple[str, ...] = ()
    layouts: tuple[Layout, ...] = ()
    elsewhere: Callable[[], Path | None] = lambda: None
    make: Callable[[str], Dataset] | None = None
    size: Size | None = None
    channels: int | None = None

    def load(self, *, part: str, data_dir: Path | None, options: Mapping[str, Any]) -> Dataset:
        """Read one part and check how many records it has.

        Args:
            part: one of the keys of `counts`.
            data_dir: where to look first.
            options: `target`, `attributes`, `size`, `channels` or `encoding`, where they differ from the set's own.

        Raises:
            MissingDataError: it is not on this machine; the message says where to get it and where to put it.
            BadInputError: no such part or column, an option that its files do not have, or another number of records.
        """
        require_part(part, self.counts, where=self.name)
        if self.make is not None:
            if options:
                raise BadInputError(f"{self.name} takes no {next(iter(options))!r}; it has one form.")
            data, place = self.make(part), self.name
        else:
            path, layout = self._locate(part, data_dir)
            data, place = layout.read(path, part=part, **self._options(layout, options)), f"{path} ({layout.kind})"
        if len(data) not in self.counts[part]:
            expected = " or ".join(f"{count:,}" for count in self.counts[part])
            raise BadInputError(
                f"{place}: expected {expected} records in part {part!r} of {self.name}, found {len(data):,}. "
                f"The copy is incomplete or altered{f'; get it again: {self.get}' if self.get else '.'}"
            )
        return replace(data, name=self.name)

    def _options(self, layout: Layout, given: Mapping[str, Any]) -> dict[str, Any]:
        default = next(iter(self.columns))
        target = given.get("target", default)
        attributes = given.get("attributes") or tuple(name for name in self.columns if name != target)
        others = {name: self.columns[name] for name in attributes if self.columns.get(name)}
        own = {
            "target": target,
            "attributes": attributes,
            "size": self.size,
            "channels": self.channels,
            "encoding": Encoding(self.columns.get(target, ()), others),
        }
        for name, value in given.items():
            if name not in layout.options and (name, value) != ("target", default):
                raise BadInputError(f"{self.name} as {layout.kind} takes no {name!r}.")
        return {name: value for name, value in {**own, **given}.items() if name in layout.options}

    def _locate(self, part: str, data_dir: Path | None) -> tuple[Path, Layout]:
        roots = data_roots(data_dir)
        other = self.elsewhere()
        places = [root / folder for root in roots for folder in self.folders or (self.name,)] + (
            [other] if other else []
        )
        found = ""
        for place in places:
            layout = layout_of(place, (*self.layouts, *LAYOUTS)) if place.is_dir() else None
            if layout and part in layout.parts(place):
                return place, layout
            if place.is_dir():
                what = f"parts {', '.join(layout.parts(place))}" if layout else "nothing that can be read"
                found += f" In {place} there is {what}."
        raise MissingDataError(
            f"part {part!r} of {self.name} is not on this machine. Get it: {self.get}. Put it: {self.put} in "
            f"{roots[0] / self.name}.{found} Looked in {', '.join(str(place) for place in places)}."
        )


def data_roots(data_dir: Path | None) -> list[Path]:
    """The folders in which data sets are looked for: `data_dir`, then `DIVULGE_DATA`, then the user's cache."""
    named = os.environ.get("DIVULGE_DATA")
    return [*([data_dir] if data_dir else []), *([Path(named)] if named else []), cache_root() / "data"]
