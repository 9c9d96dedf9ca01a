"""What records of a kind look like, learned from public ones: the coordinates that a search may use."""

from dataclasses import dataclass

import torch
from torch import Tensor

from divulge.data import Dataset
from divulge.errors import BadInputError


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """The mean of public records and the directions that they vary in most, each in units of its standard deviation.

    Args:
        mean: `(D,)`.
        components: `(k, D)`.
        shape: of a record.
    """

    mean: Tensor
    components: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, public: Dataset, *, dimensions: int) -> "PrincipalComponents":
        """Learn them.

        Raises:
            BadInputError: no more records than dimensions.
        """
        if not 1 <= dimensions < len(public):
            raise BadInputError(
                f"principal components: expected more public records than dimensions, got {len(public)} records and "
                f"{dimensions} dimensions."
            )
        flat = public.inputs.flatten(1)
        mean = flat.mean(dim=0)
        _, sizes, rows = torch.linalg.svd(flat - mean, full_matrices=False)
        spread = sizes[:dimensions] / (len(public) - 1) ** 0.5
        return cls(mean, spread[:, None] * rows[:dimensions], public.shape)

    @property
    def dimensions(self) -> int:
        """How many coordinates there are."""
        return len(self.components)

    def records(self, points: Tensor) -> Tensor:
        """Records `(n, *shape)` at points `(n, k)`."""
        return (self.mean + points @ self.components).unflatten(1, self.shape)


@dataclass(frozen=True, eq=False)
class Pixels:
    """No knowledge of what records look like: the coordinates are the entries, from zeros on.

    Args:
        shape: of a record.
    """

    shape: tuple[int, ...]

    @property
    def dimensions(self) -> int:
        """How many coordinates there are."""
        return int(torch.tensor(self.shape).prod())

    def records(self, points: Tensor) -> Tensor:
        """Records `(n, *shape)` at points `(n, D)`."""
        return points.unflatten(1, self.shape)


def space(shape: tuple[int, ...], public: Dataset | None, dimensions: int | None) -> PrincipalComponents | Pixels:
    """The coordinates of a search: `dimensions` principal components of public records, or the entries.

    Raises:
        BadInputError: dimensions without public records, or public records of another shape.
    """
    if dimensions is None:
        return Pixels(shape)
    if public is None:
        raise BadInputError(
            f"inversion: {dimensions} principal components need public records of the same kind. Give them as "
            "Knowledge(data=...) or leave dimensions out."
        )
    if public.shape != shape:
        raise BadInputError(f"inversion: expected public records of shape {shape}, got {public.shape}.")
    return PrincipalComponents.of(public, dimensions=dimensions)
