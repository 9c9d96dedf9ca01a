"""The release of an observer who sees every step of private training: the weights, and so the noisy sums."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from divulge.errors import BadInputError
from divulge.privacy.ledger import Ledger
from divulge.training import Recipe
from divulge.training.private import Privacy

ADAM_MOMENTUM = 0.9


@dataclass(frozen=True, eq=False)
class Transcript:
    """What leaves private training when every step is released, with the public facts about it.

    That a mechanism is differentially private is proven against this observer, so no weaker one can do more.

    Args:
        model: the network; its own weights do not matter.
        weights: of its trainable parameters as one vector, before the first step and after each, float32
            `(steps + 1, P)`.
        recipe: how it was trained.
        privacy: what made the training private.
        ledger: what was spent.
    """

    model: nn.Module
    weights: Tensor
    recipe: Recipe
    privacy: Privacy
    ledger: Ledger

    def __post_init__(self) -> None:
        if len(self.weights) != self.ledger.steps + 1:
            raise BadInputError(
                f"transcript: expected weights before the first and after each of the ledger's {self.ledger.steps} "
                f"steps, got {len(self.weights)} of them."
            )

    @property
    def rates(self) -> list[tuple[float, float]]:
        """Sampling rate and noise multiplier of each step."""
        return rates(self.ledger)

    @property
    def sums(self) -> Tensor:
        """The noisy sum of clipped gradients of each step, float64 `(steps, P)`.

        Raises:
            BadInputError: trained with Adam, which hides their scale.
        """
        if self.recipe.optimizer != "sgd":
            raise BadInputError(
                f"transcript: expected a recipe with the optimizer sgd, got {self.recipe.optimizer}, from whose steps "
                "the noisy sums cannot be computed exactly."
            )
        return self.recipe.batch_size * gradients(self.weights.double(), self.recipe, self.privacy)


class Recorder:
    """Writes a transcript: give it to the training as `step_watch`."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = [_vector(model)]

    def __call__(self, step: int, model: nn.Module) -> None:
        """Note the weights after a step."""
        self.weights.append(_vector(model))


def rates(ledger: Ledger) -> list[tuple[float, float]]:
    """Sampling rate and noise multiplier of each step that a ledger holds."""
    return [(phase.sampling_rate, phase.noise_multiplier) for phase in ledger.phases for _ in range(phase.steps)]


def gradients(weights: Tensor, recipe: Recipe, privacy: Privacy | None) -> Tensor:
    """The noisy mean gradients that the optimizer was given, from the weights around its steps.

    Exact for SGD, with momentum, weight decay and any schedule. Under Adam only momentum can be undone, so that each
    weight's gradients come out in units of their own, nearly constant, root mean square.

    Args:
        weights: before the first step and after each, `(steps + 1, P)`.
        recipe: names the optimizer.
        privacy: its schedule; None for a constant learning rate.

    Returns:
        `(steps, P)`.
    """
    steps = len(weights) - 1
    pace = [privacy.pace(step / steps) if privacy else 1.0 for step in range(steps)]
    moved = (weights[:-1] - weights[1:]) / (recipe.lr * torch.tensor(pace).to(weights)[:, None])
    kept = recipe.momentum
    if recipe.optimizer == "adam":
        kept = ADAM_MOMENTUM
        moved *= 1 - kept ** torch.arange(1, steps + 1).to(weights)[:, None]
    moved[1:] -= kept * moved[:-1].clone()
    return moved if recipe.optimizer == "adam" else moved - recipe.weight_decay * weights[:-1]


def _vector(model: nn.Module) -> Tensor:
    learned = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    return parameters_to_vector(learned).cpu().clone()
