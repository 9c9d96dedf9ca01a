"""The client played again: what it would have shared, had its batch been a guess."""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call, grad, replace_all_batch_norm_modules_
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd

from divulge.errors import BadInputError
from divulge.releases import GradientRecord


class Replay:
    """Maps a guessed batch to the tensors that a client with it would have shared; pure, and so fit for `torch.func`.

    The model is copied, so that nothing of the caller's changes.

    Args:
        model: the public model.
        record: the public facts.
        tap: the name of a layer; then what is differentiated is not the client's loss but the inner product of this
            layer's input with a given signal.

    Raises:
        BadInputError: a record made in training mode, with a model that drops units at random then.
    """

    def __init__(self, model: nn.Module, record: GradientRecord, *, tap: str | None = None) -> None:
        self.model = copy.deepcopy(model).train(record.training).requires_grad_(False)
        if record.training:
            for name, layer in self.model.named_modules():
                if isinstance(layer, _DropoutNd) and layer.p > 0:
                    raise BadInputError(
                        f"the record was made in training mode, in which {name or 'the model'} drops units at random, "
                        "and no search can play that again. Attack a record made in evaluation mode."
                    )
            # running statistics would be written in place, and training mode only reads those of the batch
            replace_all_batch_norm_modules_(self.model)
        self.record = record
        self.tap = tap
        self.seen: list[Tensor] = []
        if tap is not None:
            self.model.get_submodule(tap).register_forward_pre_hook(self._see)
        self.rest: dict[str, Any] = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        self.learned = {name: self.rest.pop(name) for name in record.gradients}

    def _see(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.seen.append(inputs[0])

    def __call__(self, inputs: Tensor, top: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The gradients by name, or the update divided by `-lr`; and the tapped input, or else the logits.

        Args:
            inputs: a guess `(B, *shape)`.
            top: class numbers `(B,)` or probabilities `(B, classes)`; the signal `(B, d)` if a layer is tapped.
        """

        def loss(learned: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            logits = functional_call(self.model, self.rest | learned, (inputs,))
            if self.tap is None:
                return functional.cross_entropy(logits, top, reduction=self.record.reduction), logits
            seen = self.seen.pop()
            return (seen * top).sum(), seen

        slope: Callable[..., Any] = grad(loss, has_aux=True)
        total, seen = slope(self.learned)
        learned = self.learned
        step = total
        for _ in range(self.record.local_steps - 1):
            learned = {name: learned[name] - self.record.lr * step[name] for name in step}
            step, seen = slope(learned)
            total = {name: total[name] + step[name] for name in step}
        return total, seen
