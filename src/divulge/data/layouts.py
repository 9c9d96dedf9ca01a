"""What can lie at a path, told by what is there."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from divulge.data.dataset import Dataset
from divulge.data.parts import require_part
from divulge.data.sources import cifar, csvfile, faces, folder, hub, idx, interactions, npz
from divulge.errors import BadInputError


@dataclass(frozen=True)
class Layout:
    """One way in which records lie at a path.

    Args:
        kind: what to call it.
        parts: the parts found at a path; none if the path is of another layout.
        read: reads one part; its keyword arguments are the options this layout has.
    """

    kind: str
    parts: Callable[[Path], tuple[str, ...]]
    read: Callable[..., Dataset]

    @property
    def options(self) -> frozenset[str]:
        """The names of its options."""
        return frozenset(inspect.signature(self.read).parameters) - {"path", "part"}


LAYOUTS = (
    Layout("NumPy archive", npz.parts, npz.read),
    Layout("interaction table", interactions.table_parts, interactions.read_table),
    Layout("CSV file", csvfile.parts, csvfile.read),
    Layout("parquet files", hub.parts, hub.read),
    Layout("IDX files", idx.parts, idx.read),
    Layout("CIFAR batches", cifar.parts, cifar.read),
    Layout("numbered PGM folders", faces.parts, faces.read),
    Layout("class folders of pictures", folder.parts, folder.read),
)
"""The layouts in the order in which a path is tried: the first that fits is read."""


def layout_of(path: Path, layouts: Sequence[Layout] = LAYOUTS) -> Layout | None:
    """The layout at a path; None if it is none of them."""
    return next((layout for layout in layouts if layout.parts(path)), None)


def read_path(path: Path, *, part: str, options: Mapping[str, Any]) -> Dataset:
    """Read what lies at a path.

    Args:
        path: a file or folder.
        part: which part to read; what has no parts is all `train`.
        options: options of the layout, such as `target` or `size`.

    Raises:
        BadInputError: nothing there, nothing that can be read, no such part, or an option the layout does not have.
    """
    if not path.exists():
        raise BadInputError(f"{path}: no such file or folder.")
    layout = layout_of(path)
    if layout is None:
        kinds = ", ".join(layout.kind for layout in LAYOUTS)
        raise BadInputError(f"{path}: expected one of {kinds}; found nothing of the kind.")
    require_part(part, layout.parts(path), where=f"{path} ({layout.kind})")
    for name in options:
        if name not in layout.options:
            listed = ", ".join(sorted(layout.options))
            raise BadInputError(f"{path} ({layout.kind}) takes no {name!r}. Options: {listed}.")
    return layout.read(path, part=part, **options)
