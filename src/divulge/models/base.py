"""What a model family is: frozen settings that build a fresh network for a record shape and a number of classes."""

import contextlib
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn


@dataclass(frozen=True)
class Architecture:
    """Base of every model family; a concrete one has a `name` and lives in a file of its own.

    `public_data` names what its first weights were trained on, which whatever is told about its privacy has to say;
    empty where they are drawn at random.
    """

    name: ClassVar[str] = ""
    public_data: ClassVar[str] = ""

    def build(self, shape: tuple[int, ...], classes: int, *, seed: int) -> nn.Module:
        """A freshly initialized network that maps float32 `(N, *shape)` to logits `(N, classes)`.

        The global random state is as before afterwards.
        """
        with seeded(seed):
            return self.assemble(shape, classes)

    @abstractmethod
    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself, initialized from the global random state that `build` has seeded."""

    def features(self, shape: tuple[int, ...]) -> nn.Module | None:
        """The part in front that learns nothing and maps `(N, *shape)` to `(N, F)`; None if every part learns."""
        return None


@dataclass(frozen=True)
class Featured(Architecture):
    """Base of families that learn on fixed features: a head on a part that could be computed once for all epochs."""

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Features, then the head."""
        return nn.Sequential(self.features(shape), self.head(shape, classes))

    @abstractmethod
    def features(self, shape: tuple[int, ...]) -> nn.Module:
        """The part without anything to learn; see `Architecture`."""

    def fixed(self) -> "Featured":
        """Settings that give the same features and leave out what only the head depends on, where that is known."""
        return self

    @abstractmethod
    def head(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """What learns: features `(N, F)` of records `(N, *shape)` to logits `(N, classes)`."""


@dataclass(frozen=True)
class Head(Architecture):
    """The learning part of a family alone, for a table of its features; its weights are those the whole would have.

    Args:
        of: the family.
        shape: of the records whose features they are.
    """

    of: Featured
    shape: tuple[int, ...]

    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The head; `shape` is that of the features, which `of` knows."""
        return self.of.head(self.shape, classes)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch's global random state, which initializers and dropout draw from, inside the block only."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
