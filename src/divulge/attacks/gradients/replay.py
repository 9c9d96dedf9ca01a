"""The client played again: what it would have shared, had its batch been a guess."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, grad, replace_all_batch_norm_modules_
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd

from divulge.errors import BadInputError
from divulge.models.stochastic import Stochastic, noise_inputs, penalties, stochastic_layers
from divulge.releases import GradientRecord
from divulge.releases.gradients import NOTHING, REDUCTIONS


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

    def __call__(
        self, inputs: Tensor, top: Tensor, noise: Mapping[str, Tensor] = NOTHING
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The gradients by name, or the update divided by `-lr`; and the tapped input, or else the logits.

        Args:
            inputs: a guess `(B, *shape)`.
            top: class numbers `(B,)` or probabilities `(B, classes)`; the signal `(B, d)` if a layer is tapped.
            noise: of every stochastic layer, by name `(B, ...)`, the same in each local step.
        """

        def loss(learned: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            with penalties(*self.penalized) as extra:
                logits = functional_call(self.model, self.rest | learned | dict(noise), (inputs,))
            if self.tap is None:
                value, seen = functional.cross_entropy(logits, top, reduction=self.record.reduction), logits
            else:
                seen = self.seen.pop()
                value = (seen * top).sum()
            return sum(map(REDUCTIONS[self.record.reduction], extra), start=value), seen

        slope: Callable[..., Any] = grad(loss, has_aux=True)
        total, seen = slope(self.learned)
        learned = self.learned
        step = total
        for _ in range(self.record.local_steps - 1):
            learned = {name: learned[name] - self.record.lr * step[name] for name in step}
            step, seen = slope(learned)
            total = {name: total[name] + step[name] for name in step}
        return total, seen
