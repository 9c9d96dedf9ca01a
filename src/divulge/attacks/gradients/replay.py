"""The client played again: what it would have shared, had its batch been a guess."""

import copy
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, grad, replace_all_batch_norm_modules_
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd

from divulge.attacks.gradients.products import Span, coordinates, pays, shifted
from divulge.errors import BadInputError
from divulge.models.stochastic import Stochastic, noise_inputs, penalties, stochastic_layers
from divulge.releases import GradientRecord
from divulge.releases.gradients import NOTHING, REDUCTIONS

UNSPANNED: Mapping[str, Span] = MappingProxyType({})
SAME = 1e-3
"""Share of a gradient by which rounding lets two ways to it differ."""


class Replay:
    """Maps a guessed batch to the tensors that a client with it would have shared; pure, and so fit for `torch.func`.

    The model is copied, so that nothing of the caller's changes.

    Args:
        model: the public model.
        record: the public facts.
        tap: the name of a layer; then what is differentiated is not the client's loss but the inner product of this
            layer's input with a given signal.
        penalized: whether what layers add to the loss is part of it.

    Raises:
        BadInputError: a record made in training mode, with a model that drops units at random then.
    """

    def __init__(
        self, model: nn.Module, record: GradientRecord, *, tap: str | None = None, penalized: bool = True
    ) -> None:
        self.model = copy.deepcopy(model).train(record.training).requires_grad_(False)
        if record.training:
            for name, layer in self.model.named_modules():
                if isinstance(layer, _DropoutNd) and not isinstance(layer, Stochastic) and layer.p > 0:
                    raise BadInputError(
                        f"the record was made in training mode, in which {name or 'the model'} drops units at random, "
                        "and no search can play that again. Attack a record made in evaluation mode."
                    )
        self.layers = stochastic_layers(self.model)
        like = next(self.model.parameters())
        self.given = noise_inputs(self.model, like.new_zeros((record.batch_size, *record.shape))) if self.layers else {}
        if record.training:
            # running statistics would be written in place, and training mode only reads those of the batch
            replace_all_batch_norm_modules_(self.model)
        self.record = record
        self.tap = tap
        self.seen: list[Tensor] = []
        order = [name for name, _ in self.model.named_modules()]
        below = order if tap is None else order[: order.index(tap)]
        acting = [self.model.get_submodule(name) for name in below] if penalized else []
        self.penalized = [layer for layer in acting if isinstance(layer, Stochastic)]
        if tap is not None:
            self.model.get_submodule(tap).register_forward_pre_hook(self._see)
        self.rest: dict[str, Any] = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        self.learned = {name: self.rest.pop(name) for name in record.gradients}

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Of the noise of each stochastic layer, by name, for one guess."""
        return {name: layer.shape(self.given[name]) for name, layer in self.layers.items()}

    def _see(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.seen.append(inputs[0])

    def fresh(self, count: int, generator: Generator) -> dict[str, Tensor]:
        """Noise for the stochastic layers, drawn for `count` guesses, by name `(count, B, ...)`."""
        return {
            name: layer.draw(torch.cat([self.given[name]] * count), generator).unflatten(0, (count, -1))
            for name, layer in self.layers.items()
        }

    def parts(self, point: Tensor) -> dict[str, Tensor]:
        """The noise of every stochastic layer, by name `(B, ...)`, that stands at the end of a point `(n,)`."""
        shapes = self.shapes
        sizes = [shape.numel() for shape in shapes.values()]
        ends = point[len(point) - sum(sizes) :].split(sizes)
        return {name: end.view(shape) for (name, shape), end in zip(shapes.items(), ends, strict=True)}

    def nearest(self, points: Tensor) -> Tensor:
        """The noise of many guesses `(m, n)`, each layer's brought to what is possible."""
        parts = points.split([shape.numel() for shape in self.shapes.values()], dim=1)
        return torch.cat([layer.nearest(part) for layer, part in zip(self.layers.values(), parts, strict=True)], dim=1)

    def only(self, names: Iterable[str]) -> "Replay":
        """The same of one step, telling of some parameters alone."""
        narrow = copy.copy(self)
        narrow.learned = {name: self.learned[name] for name in names}
        narrow.rest = self.rest | {name: one for name, one in self.learned.items() if name not in narrow.learned}
        return narrow

    def __call__(
        self,
        inputs: Tensor,
        top: Tensor,
        noise: Mapping[str, Tensor] = NOTHING,
        spans: Mapping[str, Span] = UNSPANNED,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The gradients by name, or the update divided by `-lr`; and the tapped input, or else the logits.

        Args:
            inputs: a guess `(B, *shape)`.
            top: class numbers `(B,)` or probabilities `(B, classes)`; the signal `(B, d)` if a layer is tapped.
            noise: of every stochastic layer, by name `(B, ...)`, the same in each local step.
            spans: of weights among `products`, whose gradients are then told in `coordinates`; of one step.
        """
        if spans:
            found, products, seen = self._products(inputs, top, noise, spans)
            return found | {name: coordinates(*products[name], span) for name, span in spans.items()}, seen
        slope: Callable[..., Any] = grad(self._loss, has_aux=True)
        first, *later = self.record.steps
        total, (seen, _) = slope(self.learned, {}, inputs[first], top[first], _rows(noise, first))
        learned = self.learned
        step = total
        for rows in later:
            learned = {name: learned[name] - self.record.lr * step[name] for name in step}
            step, (seen, _) = slope(learned, {}, inputs[rows], top[rows], _rows(noise, rows))
            total = {name: total[name] + step[name] for name in step}
        return total, seen

    def products(self) -> list[str]:
        """The weights whose gradient is the product of what `coordinates` takes, and long beside it.

        Those of linear layers that see one row a record, once, and that nothing else works with: as a try shows.
        """
        size, calls = self.record.batch_size, dict[str, list[list[torch.Size]]]()
        hooks = [
            layer.register_forward_pre_hook(
                lambda _, given, name=name: calls.setdefault(name, []).append([one.shape for one in given])
            )
            for name, layer in self.model.named_modules()
            if isinstance(layer, nn.Linear) and _weight(name) in self.learned and pays(layer.weight, size)
        ]
        generator = torch.Generator().manual_seed(0)
        like = next(iter(self.learned.values()))
        guess = torch.rand((size, *self.record.shape), generator=generator).to(like)
        top = torch.zeros(size, dtype=torch.long, device=like.device)
        if self.tap is not None:
            top = like.new_ones(size, self.model.get_submodule(self.tap).get_parameter("weight").shape[1])
        noise = {name: one[0] for name, one in self.fresh(1, generator).items()}
        try:
            plain, _ = self(guess, top, noise)
        except RuntimeError:
            return []  # whoever searches with this model is told so by `probe`
        finally:
            for hook in hooks:
                hook.remove()
        names = [
            _weight(name)
            for name, seen in calls.items()
            if seen == [[(size, self.model.get_submodule(name).get_parameter("weight").shape[1])]]
        ]
        _, products, _ = self._products(guess, top, noise, names)
        apart = {name: (plain[name] - signals.mT @ entered).norm() for name, (signals, entered) in products.items()}
        return [name for name in names if apart[name] < SAME * plain[name].norm()]

    def _products(
        self, inputs: Tensor, top: Tensor, noise: Mapping[str, Tensor], names: Iterable[str]
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]], Tensor]:
        """The gradients of all but the named weights; of these the signals `(B, out)` and the inputs `(B, in)`."""
        fixed = set(names)
        learned = {name: one for name, one in self.learned.items() if name not in fixed}
        shifts = {
            _layer(name): inputs.new_zeros(len(inputs), len(one)) for name, one in self.learned.items() if name in fixed
        }
        slope: Callable[..., Any] = grad(self._loss, argnums=(0, 1), has_aux=True)
        (found, signals), (seen, entered) = slope(learned, shifts, inputs, top, noise)
        return found, {name: (signals[_layer(name)], entered[_layer(name)]) for name in fixed}, seen

    def _loss(
        self,
        learned: Mapping[str, Tensor],
        shifts: Mapping[str, Tensor],
        inputs: Tensor,
        top: Tensor,
        noise: Mapping[str, Tensor],
    ) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
        weights = self.rest | self.learned | dict(learned) | dict(noise)
        with penalties(*self.penalized) as extra, shifted(self.model, shifts) as entered:
            logits = functional_call(self.model, weights, (inputs,))
        if self.tap is None:
            value, seen = functional.cross_entropy(logits, top, reduction=self.record.reduction), logits
        else:
            seen = self.seen.pop()
            value = (seen * top).sum()
        return sum(map(REDUCTIONS[self.record.reduction], extra), start=value), (seen, entered)


def _rows(noise: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
    return {name: one[rows] for name, one in noise.items()}


def _weight(layer: str) -> str:
    return f"{layer}.weight" if layer else "weight"


def _layer(weight: str) -> str:
    return weight.removesuffix("weight").removesuffix(".")
