"""What DP-SGD adds to a recipe, and the steps that follow from both."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from divulge.errors import BadInputError
from divulge.privacy import accounting
from divulge.privacy.ledger import Phase, Sampling
from divulge.training.recipe import Recipe

Schedule = Literal["constant", "linear", "cosine"]
Clipping = Literal["flat", "automatic", "adaptive"]
DEFAULT_EPSILON = 8.0


@dataclass(frozen=True)
class Privacy:
    """How to train with differential privacy: DP-SGD (Abadi et al. 2016, arXiv 1607.00133).

    Of the recipe, `batch_size` is the expected size of a batch, `lr_decay` gives way to `schedule`, and `weight_decay`
    acts outside of the clipped sum. Either `epsilon` or `noise_multiplier` is given, not both.

    Args:
        epsilon: the budget; the noise is calibrated to spend it in the last step. 8 if neither is given.
        noise_multiplier: standard deviation of the noise over `clip`.
        delta: chance that the promise of `epsilon` fails; below one over the number of records.
        steps: noisy steps in all, over which the recipe's epochs are spread evenly; None for those of its epochs.
        clip: largest norm of one record's gradient over all parameters together; the first, if clipping is adaptive.
        clipping: `flat` scales longer gradients down to `clip`; `automatic` scales all to almost `clip` (Bu et al.
            2023, arXiv 2206.07136); `adaptive` moves the bound to the median norm, with a share of the noise for
            finding it (Andrew et al. 2021, arXiv 1905.03871).
        multiplicity: augmentations of each record whose gradients are averaged before clipping (De et al. 2022, arXiv
            2204.13650).
        averaging: decay of a moving average of the weights, which takes their place at the end; None for the last
            weights.
        schedule: how the learning rate falls from the recipe's to 0, step by step.
        sampling: `poisson` draws each record into each step by a coin of its own; `shuffled` uses fixed batches of a
            shuffled pass, which hide nothing: the ledger then counts one full look at each record a pass.
        microbatch: records, times their augmentations, that are in memory at once; changes nothing but rounding
            and what augmentation and dropout draw.
        noise_seed: of noise, sampling, augmentation and dropout, for tests; whoever knows it can subtract the noise,
            and the ledger says so. None draws all from the operating system.

    Raises:
        BadInputError: a value out of range, or both `epsilon` and `noise_multiplier`.
    """

    epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float = 1e-5
    steps: int | None = None
    clip: float = 1.0
    clipping: Clipping = "flat"
    multiplicity: int = 1
    averaging: float | None = None
    schedule: Schedule = "constant"
    sampling: Sampling = "poisson"
    microbatch: int = 512
    noise_seed: int | None = None

    def __post_init__(self) -> None:
        if self.epsilon is not None and self.noise_multiplier is not None:
            raise BadInputError(
                f"dp-sgd: expected either epsilon or noise_multiplier, got {self.epsilon} and {self.noise_multiplier}. "
                "An epsilon calibrates the noise; a noise multiplier leaves epsilon to the steps."
            )
        if self.epsilon is None and self.noise_multiplier is None:
            object.__setattr__(self, "epsilon", DEFAULT_EPSILON)
        for name in ("epsilon", "noise_multiplier", "clip"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                hint = " Without noise there is no differential privacy." if name == "noise_multiplier" else ""
                raise BadInputError(f"dp-sgd: expected a finite {name} above 0, got {value}.{hint}")
        if not 0 < self.delta < 1:
            raise BadInputError(f"dp-sgd: expected 0 < delta < 1, got {self.delta}.")
        for name, least in (("steps", 1), ("multiplicity", 1), ("microbatch", 1), ("noise_seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise BadInputError(f"dp-sgd: expected {name} >= {least}, got {value}.")
        if self.averaging is not None and not 0 < self.averaging < 1:
            raise BadInputError(f"dp-sgd: expected 0 < averaging < 1 or none, got {self.averaging}.")
        for name, known in (("clipping", Clipping), ("schedule", Schedule), ("sampling", Sampling)):
            if getattr(self, name) not in get_args(known):
                raise BadInputError(
                    f"dp-sgd: expected {name} to be one of {', '.join(get_args(known))}, got {getattr(self, name)!r}."
                )

    def plan(self, records: int, recipe: Recipe) -> Phase:
        """All the noisy steps of a run on `records` records: sampling rate, noise multiplier and number.

        Raises:
            BadInputError: fewer than two records, a delta that one record in `records` would meet, a batch larger than
                the data, too few steps, a recipe that this training cannot follow, or an epsilon out of reach.
        """
        self._require(records, recipe)
        rate = recipe.batch_size / records
        steps = self.steps
        if steps is None:
            passing = records / recipe.batch_size
            steps = (
                recipe.epochs * math.ceil(passing) if self.sampling == "shuffled" else round(recipe.epochs * passing)
            )
        if steps < recipe.epochs:
            raise BadInputError(
                f"dp-sgd: expected at least one step an epoch, got {steps} steps for {recipe.epochs} epochs. Lower the "
                "recipe's epochs."
            )
        noise = self.noise_multiplier
        if noise is None:
            assert self.epsilon is not None
            noise = _calibrated(self.epsilon, self.delta, rate, steps, self.sampling)
        return Phase(rate, noise, steps, self.sampling)

    def _require(self, records: int, recipe: Recipe) -> None:
        if records < 2:
            raise BadInputError(f"training: expected at least 2 records, got {records}.")
        if self.delta * records >= 1:
            raise BadInputError(
                f"dp-sgd: expected delta below 1/{records}, one over the number of records, got {self.delta}. With a "
                "larger one, telling a record outright would count as private."
            )
        if recipe.batch_size > records:
            raise BadInputError(
                f"dp-sgd: an expected batch of {recipe.batch_size} of {records} records is a sampling rate of "
                f"{recipe.batch_size / records:.3g}, above 1. Lower batch_size to at most {records}; that many is "
                "full-batch training."
            )
        if recipe.patience is not None:
            raise BadInputError(
                "dp-sgd: early stopping looks at records without noise, which the ledger cannot count. Set the "
                "recipe's patience to none."
            )
        if self.multiplicity > 1 and not recipe.augment:
            raise BadInputError(
                f"dp-sgd: multiplicity {self.multiplicity} averages copies that are all the same. Name transforms in "
                "the recipe's augment, or set it to 1."
            )

    def pace(self, done: float) -> float:
        """Factor on the learning rate when the share `done` of the steps, 0 to 1, is behind."""
        match self.schedule:
            case "linear":
                return 1 - done
            case "cosine":
                return (1 + math.cos(math.pi * done)) / 2
        return 1.0


@lru_cache(maxsize=256)
def _calibrated(epsilon: float, delta: float, rate: float, steps: int, sampling: Sampling) -> float:
    return accounting.noise_multiplier(epsilon=epsilon, delta=delta, sampling_rate=rate, steps=steps, sampling=sampling)
