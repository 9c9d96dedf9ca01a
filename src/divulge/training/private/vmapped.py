"""Per-example gradients of any model, by `vmap` over `grad`."""

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from divulge.errors import BadInputError
from divulge.training.private.losses import Loss
from divulge.training.private.parts import Gradients, stored


class Vmapped:
    """A model that `torch.func` can call; each example, and each copy of it, draws its own dropout.

    Args:
        model: read at each call.
        loss: one loss an example.
        fast: compute the forward and backward pass in bfloat16.
    """

    def __init__(self, model: nn.Module, loss: Loss, *, fast: bool) -> None:
        self.model, self.loss, self.fast = model, loss, fast

    def __call__(self, inputs: Tensor, targets: Tensor) -> Gradients:
        """See `Method`."""
        learned = {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}
        fixed = {name: p.detach() for name, p in self.model.named_parameters() if not p.requires_grad}
        fixed |= dict(self.model.named_buffers())

        def loss(parameters: dict[str, Tensor], copies: Tensor, target: Tensor) -> Tensor:
            with torch.autocast(copies.device.type, dtype=torch.bfloat16, enabled=self.fast):
                answer = functional_call(self.model, (parameters, fixed), (copies,)).float()
            return self.loss(answer, target.expand(len(copies), *target.shape)).mean()

        try:
            gradients, losses = vmap(grad_and_value(loss), in_dims=(None, 0, 0), randomness="different")(
                learned, inputs, targets
            )
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            raise BadInputError(
                f"clipping: torch.func cannot take this model's gradients example by example: {error}. Rewrite what it "
                "names, or use layers that divulge.training.private.layers knows, each called once."
            ) from error
        return Gradients(losses, {place: stored(each.float()) for place, each in enumerate(gradients.values())})
