"""Layers that draw random numbers, and take them as an argument where they are known, repeated or searched for."""

import contextlib
import copy
from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from divulge.errors import BadInputError
from divulge.models.base import seeded

BUFFER = "noise"


class Stochastic(nn.Module):
    """Base of layers with random numbers in them.

    They draw from PyTorch's global random state, which whoever asks the model seeds. To give them their noise instead,
    name it in `torch.func.functional_call(model, {"<layer>.noise": noise}, inputs)`; it then holds in every mode. The
    buffer `noise` is empty otherwise and no part of a model's state. A client that shares a gradient draws in either
    mode; see `divulge.releases.share`.
    """

    noise: Tensor | None

    def shape(self, given: Tensor) -> torch.Size:
        """That of the noise for the layer's input `(N, ...)`, with one row a record."""
        return given.shape

    @abstractmethod
    def draw(self, given: Tensor, generator: Generator) -> Tensor:
        """Fresh noise for the layer's input."""

    def nearest(self, noise: Tensor) -> Tensor:
        """The nearest noise that is possible, or between what is."""
        return noise

    @abstractmethod
    def surprise(self, noise: Tensor) -> Tensor:
        """A number that is small for noise as it is drawn."""

    def penalty(self, given: Tensor) -> Tensor | None:
        """What the layer adds to the loss of each record `(N,)`, from its input; None for nothing."""
        return None


class Sample(Stochastic):
    """The draw in the middle of a variational bottleneck: `mean + std * noise`, the noise standard normal.

    Kingma and Welling 2014 (arXiv 1312.6114). The input `(N, 2K, ...)` holds K means and then what softplus turns into
    K standard deviations; the output is `(N, K, ...)`. Its penalty is `beta` times the Kullback-Leibler divergence of
    that normal law from the standard one, in nats: summed over K, and the mean over positions where there are any.

    Args:
        beta: weight of the divergence in the loss.
        always: draw in evaluation mode too, where the mean is given otherwise.
        limit: what goes into softplus is clamped to `[-limit, limit]`; None for no limit.

    Example:
        >>> layer = Sample(beta=1.0).eval()
        >>> layer(torch.tensor([[3.0, 0.0]])).tolist()
        [[3.0]]
    """

    def __init__(self, beta: float, *, always: bool = False, limit: float | None = None) -> None:
        super().__init__()
        self.beta, self.always, self.limit = beta, always, limit
        self.register_buffer(BUFFER, None, persistent=False)

    def extra_repr(self) -> str:
        """The settings, as PyTorch prints them."""
        return f"beta={self.beta}, always={self.always}, limit={self.limit}"

    def moments(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the code, `(N, K, ...)` each."""
        mean, raw = given.chunk(2, dim=1)
        if self.limit is not None:
            raw = raw.clamp(-self.limit, self.limit)
        return mean, functional.softplus(raw)

    def forward(self, given: Tensor) -> Tensor:
        """The code."""
        mean, std = self.moments(given)
        if self.noise is not None:
            return mean + std * self.noise
        return mean + std * torch.randn_like(std) if self.training or self.always else mean

    def shape(self, given: Tensor) -> torch.Size:
        """That of the code."""
        return given.chunk(2, dim=1)[0].shape

    def draw(self, given: Tensor, generator: Generator) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(self.shape(given), generator=generator).to(given)

    def surprise(self, noise: Tensor) -> Tensor:
        """The mean square."""
        return noise.square().mean()

    def penalty(self, given: Tensor) -> Tensor:
        """`beta` times the divergence of each record `(N,)`."""
        mean, std = self.moments(given.to(torch.promote_types(given.dtype, torch.float32)))
        divergence = (mean.square() + std.square() - 1) / 2 - std.log()
        return self.beta * divergence.sum(dim=1).reshape(len(given), -1).mean(dim=1)


class MaskedDropout(nn.Dropout, Stochastic):
    """Dropout whose mask can be given: its noise is 1 where a unit is kept and 0 where it is dropped."""

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self.register_buffer(BUFFER, None, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """The kept units, divided by the share that is kept."""
        return super().forward(input) if self.noise is None else input * self.noise / (1 - self.p)

    def draw(self, given: Tensor, generator: Generator) -> Tensor:
        """A mask."""
        return (torch.rand(given.shape, generator=generator) >= self.p).to(given)

    def nearest(self, noise: Tensor) -> Tensor:
        """Between dropped and kept."""
        return noise.clamp(0, 1)

    def surprise(self, noise: Tensor) -> Tensor:
        """How far the share of dropped units is from the rate."""
        return (1 - noise.mean() - self.p).abs()


def injectable(model: nn.Module) -> nn.Module:
    """A copy of `model` that computes the same, with every `nn.Dropout` able to take its mask as an argument."""
    model = copy.deepcopy(model)
    for holder in list(model.modules()):
        for name, child in holder.named_children():
            if type(child) is nn.Dropout and 0 < child.p < 1:
                setattr(holder, name, MaskedDropout(child.p).train(child.training))
    return model


def stochastic_layers(model: nn.Module) -> dict[str, Stochastic]:
    """The layers that draw, by the name that `functional_call` takes for their noise."""
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, Stochastic)}
    return {f"{name}.{BUFFER}" if name else BUFFER: layer for name, layer in layers.items()}


@contextlib.contextmanager
def penalties(*modules: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what stochastic layers in `modules` add to the loss of each record, `(N,)` a call, inside the block."""
    found: list[Tensor] = []

    def collect(layer: Stochastic, given: tuple[Tensor, ...]) -> None:
        penalty = layer.penalty(given[0])
        if penalty is not None:
            found.append(penalty)

    layers = {layer for module in modules for layer in stochastic_layers(module).values()}
    hooks = [layer.register_forward_pre_hook(collect) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def noise_inputs(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """What enters each stochastic layer on a batch, by the name that `functional_call` takes for its noise.

    The model is asked in evaluation mode, and is as before afterwards.

    Raises:
        BadInputError: a stochastic layer that is called more than once.
    """
    found: dict[str, Tensor] = {}

    def see(name: str, given: Tensor) -> None:
        if name in found:
            raise BadInputError(
                f"expected a stochastic layer to be called once for an answer, got {name.removesuffix('.' + BUFFER)!r} "
                "twice. Give each call a layer of its own."
            )
        found[name] = given

    asked = copy.deepcopy(model).eval()
    for name, layer in stochastic_layers(asked).items():
        layer.register_forward_pre_hook(lambda layer, given, name=name: see(name, given[0]))
    with torch.no_grad(), seeded(0):
        asked(inputs)
    return found


def draw_noise(model: nn.Module, inputs: Tensor, *, generator: Generator) -> dict[str, Tensor]:
    """Fresh noise for every stochastic layer of `model` on a batch, by the name that `functional_call` takes.

    Args:
        model: maps `(N, *shape)` to answers; left as it was.
        inputs: the batch.
        generator: of the noise.

    Raises:
        BadInputError: a stochastic layer that is called more than once, or a model whose forward pass has side effects:
            its answer to the same inputs and noise changes from call to call.
    """
    layers = stochastic_layers(model)
    noise = {name: layers[name].draw(given, generator) for name, given in noise_inputs(model, inputs).items()}
    asked = copy.deepcopy(model).eval()
    with torch.no_grad(), seeded(0):
        one, two = (functional_call(asked, noise, (inputs,)) for _ in range(2))
    if not torch.allclose(one, two, equal_nan=True):
        raise BadInputError(
            "expected a model that answers the same to the same inputs and noise, got different answers: its forward "
            "pass has side effects, or draws random numbers outside of its layers. Remove them."
        )
    return noise
