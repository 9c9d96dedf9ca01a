"""Per-example gradients from one forward pass and one backward pass to the outputs of the layers alone.

Book-keeping (Bu et al. 2023, arXiv:2210.00038): inputs of layers and gradients at their outputs give each example's
norm and then the clipped sum, without a gradient of the batch and without a second backward pass.
"""

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from divulge.training.private.layers import LAYERS
from divulge.training.private.losses import Loss, answered, for_each_copy, over_copies
from divulge.training.private.parts import Gradients, Part, UnsupportedError


class Ghost:
    """A model made of layers that `LAYERS` knows and of what learns nothing.

    Args:
        model: read at each call.
        loss: one loss an example.
        fast: see `losses.answered`.

    Raises:
        UnsupportedError: another layer that learns, or a parameter that several layers share.
    """

    def __init__(self, model: nn.Module, loss: Loss, *, fast: bool) -> None:
        self.model, self.loss, self.fast = model, loss, fast
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        place = {id(parameter): number for number, parameter in enumerate(learned)}
        self.layers: dict[nn.Module, dict[str, int]] = {}
        met: set[int] = set()
        for name, layer in model.named_modules():
            own = {key: place[id(p)] for key, p in layer.named_parameters(recurse=False) if p.requires_grad}
            if not own:
                continue
            if type(layer) not in LAYERS:
                raise UnsupportedError(f"layer {name!r} is a {type(layer).__name__}")
            if met.intersection(own.values()):
                raise UnsupportedError(f"layer {name!r} shares a parameter with another")
            met.update(own.values())
            self.layers[layer] = own

    def __call__(self, inputs: Tensor, targets: Tensor) -> Gradients:
        """See `Method`."""
        examples, copies = inputs.shape[:2]
        seen: dict[nn.Module, tuple[Tensor, GradientEdge]] = {}

        def note(layer: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
            if layer in seen:
                raise UnsupportedError(f"a {type(layer).__name__} is called twice in one pass")
            if len(given) != 1 or len(given[0]) != examples * copies or len(answer) != examples * copies:
                raise UnsupportedError(f"a {type(layer).__name__} is called on something other than the examples")
            if answer.requires_grad:
                seen[layer] = given[0].detach(), get_gradient_edge(answer)

        hooks = [layer.register_forward_hook(note) for layer in self.layers]
        try:
            with torch.enable_grad():
                answer = answered(self.model, inputs.flatten(0, 1), fast=self.fast)
                losses = over_copies(self.loss(answer, for_each_copy(targets, copies)), copies)
                total = losses.sum()
        finally:
            for hook in hooks:
                hook.remove()
        found = torch.autograd.grad(total, [edge for _, edge in seen.values()], allow_unused=True)
        parts: dict[int, Part] = {}
        with torch.no_grad():
            for (layer, (given, _)), e in zip(seen.items(), found, strict=True):
                if e is not None:
                    parts_of = LAYERS[type(layer)](layer, given, e, examples)
                    parts |= {place: parts_of[name]() for name, place in self.layers[layer].items()}
        return Gradients(losses.detach(), parts)
