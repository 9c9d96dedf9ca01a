"""Records to measure on: real ones where they are on this machine, else random ones of the same shape."""

import torch

from divulge.data import Dataset, load
from divulge.errors import MissingDataError


def images(name: str, n: int, shape: tuple[int, int, int]) -> tuple[Dataset, str]:
    """The first `n` records of a named set of pictures in 10 classes, and which records they are, in words."""
    try:
        return load(name)[:n], f"{n:,} records of {name}"
    except MissingDataError:
        generator = torch.Generator().manual_seed(0)
        targets = torch.randint(10, (n,), generator=generator)
        data = Dataset(torch.rand(n, *shape, generator=generator), targets, classes=tuple(map(str, range(10))))
        return data, f"{n:,} random records in the shape of {name}"


def places() -> tuple[Dataset, str]:
    """Location-30, or 5,010 random records of its shape, and which records they are, in words."""
    try:
        return load("location30"), "location30"
    except MissingDataError:
        generator = torch.Generator().manual_seed(0)
        inputs = (torch.rand(5010, 446, generator=generator) < 0.1).float()
        targets = torch.randint(30, (5010,), generator=generator)
        return Dataset(inputs, targets, classes=tuple(map(str, range(30)))), "random records in the shape of location30"
