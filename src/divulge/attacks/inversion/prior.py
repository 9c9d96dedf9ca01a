"""What records of a kind look like, learned from public ones: the coordinates that a search may use."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

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


@dataclass(frozen=True, eq=False)
class Code:
    """The code of an autoencoder at the entrance of the attacked model, from zeros on.

    Args:
        autoencoder: with `encode`, records `(n, *shape)` to codes `(n, k)`, and `decode`, the way back to `(n, D)`.
        dimensions: of a code.
        shape: of a record.
    """

    autoencoder: Any
    dimensions: int
    shape: tuple[int, ...]

    def records(self, points: Tensor) -> Tensor:
        """Records `(n, *shape)` that codes `(n, k)` stand for."""
        return self.autoencoder.decode(points).unflatten(1, self.shape)

    def points(self, records: Tensor) -> Tensor:
        """Codes `(n, k)` of records `(n, *shape)`."""
        return self.autoencoder.encode(records)


def code_of(model: nn.Module, shape: tuple[int, ...]) -> Code:
    """The code of the first autoencoder in a model, which must take whole records of `shape`.

    Raises:
        BadInputError: no module that encodes and decodes, or one that is not made for such records.
    """
    coders = [module for module in model.modules() if hasattr(module, "encode") and hasattr(module, "decode")]
    if not coders:
        raise BadInputError(
            "inversion: a search in code space needs a model that begins with an autoencoder, a module with `encode` "
            "and `decode`, and there is none. Take another processing."
        )
    first: Any = coders[0]
    with torch.no_grad():
        code = first.encode(torch.zeros(1, *shape))
        back = first.decode(code)
    if back[0].numel() != int(torch.tensor(shape).prod()):
        raise BadInputError(
            f"inversion: expected an autoencoder of records of shape {shape}, got one that gives back "
            f"{back[0].numel()} entries."
        )
    return Code(first, code.shape[1], shape)


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
