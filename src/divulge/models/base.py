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
    """Base of every model family; a concrete one has a `name` and lives in a file of its own."""

    name: ClassVar[str] = ""

    def build(self, shape: tuple[int, ...], classes: int, *, seed: int) -> nn.Module:
        """A freshly initialized network that maps float32 `(N, *shape)` to logits `(N, classes)`.

        The global random state is as before afterwards.
        """
        with seeded(seed):
            return self.assemble(shape, classes)

    @abstractmethod
    def assemble(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The network itself, initialized from the global random state that `build` has seeded."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch's global random state, which initializers and dropout draw from, inside the block only."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
