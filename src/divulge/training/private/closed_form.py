"""Per-example gradients of softmax regression: no graph, no backward pass, two products of matrices."""

import torch
from torch import Tensor, nn

from divulge.training.private.losses import for_each_copy, over_copies
from divulge.training.private.parts import Gradients, UnsupportedError, outer, rank_one, stored


class ClosedForm:
    """Cross-entropy of one linear layer on what modules that learn nothing make of the inputs.

    With features `f`, posterior `p` and one-hot label `y` the gradient is `(p - y) (f, 1)^T`, of squared norm
    `|p - y|^2 (|f|^2 + 1)`.

    Args:
        model: read at each call; `nn.Linear`, or an `nn.Sequential` that ends in one.

    Raises:
        UnsupportedError: another model.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = list(model) if type(model) is nn.Sequential else [model]
        if type(layers[-1]) is not nn.Linear or any(
            p.requires_grad for layer in layers[:-1] for p in layer.parameters()
        ):
            raise UnsupportedError("the model is not one linear layer, after nothing that learns")
        self.head, self.before = layers[-1], layers[:-1]

    @torch.no_grad()
    def __call__(self, inputs: Tensor, targets: Tensor) -> Gradients:
        """See `Method`."""
        features = inputs.flatten(0, 1)
        for layer in self.before:
            features = layer(features)
        if features.ndim != 2 or targets.ndim != 1 or targets.is_floating_point():
            raise UnsupportedError("the linear layer does not meet one vector an example, and the number of its class")
        examples, copies = inputs.shape[:2]
        classes = for_each_copy(targets, copies).unsqueeze(1)
        logits = (self.head.weight @ features.T).T  # twice as fast as features @ weight.T where classes are few
        logs = (logits if self.head.bias is None else logits + self.head.bias).log_softmax(dim=1)
        losses = over_copies(-logs.gather(1, classes).squeeze(1), copies)
        e = logs.exp_().scatter_(1, classes, -1.0, reduce="add")
        if copies == 1:
            parts = rank_one(features, e)
        else:
            a, e = features.unflatten(0, (examples, copies)), e.unflatten(0, (examples, copies)) / copies
            parts = outer(a, e), stored(e.sum(dim=1))
        own = [p for p in (self.head.weight, self.head.bias) if p is not None]
        learned = [part for part, parameter in zip(parts, own, strict=False) if parameter.requires_grad]
        return Gradients(losses, dict(enumerate(learned)))
