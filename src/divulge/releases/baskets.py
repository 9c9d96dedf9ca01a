"""What a client of a federated recommender shares: the gradient of one user's basket, or of several users'."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from divulge.data.interactions import require_baskets
from divulge.errors import BadInputError
from divulge.models.multvae import multinomial
from divulge.releases.gradients import NOTHING, REDUCTIONS, GradientRecord, Reduction, share


def share_baskets(
    model: nn.Module,
    baskets: Tensor,
    *,
    negatives: Tensor | None = None,
    reduction: Reduction = "sum",
    seed: int = 0,
    noise: Mapping[str, Tensor] = NOTHING,
) -> GradientRecord:
    """The gradient of the multinomial loss of some users' baskets, dropout and the code's noise on.

    The model and the global random state are left as they were.

    Args:
        model: maps `(N, items)` to logits `(N, items)`.
        baskets: `(N, items)` of zeros and ones; one row is the update of one user.
        negatives: bool `(N, items)`, items that are drawn against the basket: a user's softmax then runs over them and
            the basket alone. None for all items.
        reduction: how the losses of several users become one.
        seed: of what the model draws.
        noise: what stochastic layers use instead of drawing, by name; see `divulge.models.stochastic`.

    Raises:
        BadInputError: other values than zeros and ones, a user without an item, or a model of other items.
    """
    require_baskets(baskets, where="share_baskets")
    if negatives is not None and negatives.shape != baskets.shape:
        raise BadInputError(
            f"share_baskets: expected negatives of shape {tuple(baskets.shape)}, got {tuple(negatives.shape)}."
        )
    _require_items(model, baskets)

    def loss(logits: Tensor, targets: Tensor, *, reduction: Reduction) -> Tensor:
        if logits.shape != baskets.shape:
            raise BadInputError(
                f"share_baskets: expected a logit for each of {baskets.shape[1]} items, got {tuple(logits.shape)}."
            )
        if negatives is not None:
            logits = logits.masked_fill(~negatives & (baskets == 0), -torch.inf)
        return REDUCTIONS[reduction](multinomial(logits, baskets))

    nobody = torch.zeros(len(baskets), dtype=torch.int64)
    return share(model, baskets, nobody, reduction=reduction, training=True, loss=loss, seed=seed, noise=noise)


def _require_items(model: nn.Module, baskets: Tensor) -> None:
    first = next((module for module in model.modules() if isinstance(module, nn.Linear)), None)
    if first is not None and first.in_features != baskets.shape[1]:
        raise BadInputError(
            f"share_baskets: the model knows {first.in_features} items and the table has {baskets.shape[1]}. Number the "
            "items as the model does."
        )
