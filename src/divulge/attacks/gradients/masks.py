"""Which units dropout dropped, as the zeros of a gradient tell it."""

from torch import Tensor, nn

from divulge.attacks.gradients.replay import Replay
from divulge.errors import BadInputError
from divulge.models.stochastic import BUFFER
from divulge.releases import GradientRecord


def masks_of(record: GradientRecord, replay: Replay) -> list[Tensor]:
    """The mask `(1, features)` of each dropout layer, off the columns of the linear layer behind it that are not zero.

    A unit that was inactive reads as dropped, which makes no difference to the gradient.

    Raises:
        BadInputError: a batch of more than one, whose records have masks of their own, or dropout that is not right
            before a linear layer.
    """
    order = [name for name, module in replay.model.named_modules() if not list(module.children())]
    masks = []
    for name, shape in replay.shapes.items():
        own = name.removesuffix(BUFFER).removesuffix(".")
        behind = order[order.index(own) + 1] if own != order[-1] else ""
        layer = replay.model.get_submodule(behind)
        if record.batch_size > 1 or not isinstance(layer, nn.Linear) or shape[1:] != (layer.in_features,):
            raise BadInputError(
                f"expected a batch of 1 and a linear layer behind each dropout, got a batch of {record.batch_size} and "
                f"a {type(layer).__name__}. Set noise_start='drawn'."
            )
        masks.append((record.gradients[f"{behind}.weight"] != 0).any(dim=0)[None])
    return masks
