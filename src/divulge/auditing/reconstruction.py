"""How often a prior-aware adversary picks the right record, beside the most that a ledger allows."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from divulge.attacks.reconstruction import PriorAware, Recorder, Transcript
from divulge.auditing.words import share
from divulge.data import Dataset, concatenate
from divulge.errors import BadInputError
from divulge.metrics import Finding, clopper_pearson
from divulge.models import Architecture
from divulge.privacy.ledger import Ledger
from divulge.training import Recipe
from divulge.training.private import Privacy, fit_private


@dataclass(frozen=True)
class ReconstructionAudit:
    """What a ledger allows an adversary with a prior, and what the prior-aware attack achieves.

    Args:
        ledger: of one trial.
        candidates: for the record that is not known; a guess is right once in so many.
        bound: largest success rate of any attack, by the ledger.
        success: of the attack; its control is the same attack where the record was not in the training.
    """

    ledger: Ledger
    candidates: int
    bound: float
    success: Finding

    @property
    def caught(self) -> bool:
        """Whether the attack is surely right more often than the ledger allows."""
        return self.success.low > self.bound

    def __str__(self) -> str:
        done = self.success
        text = (
            f"Who sees every step of the training, knows all records but one and has {self.candidates} candidates for "
            f"it picks the right one {share(done.value)} times (95 % interval {share(done.low)} to {share(done.high)}, "
            f"{done.n:,} trials). Guessing is right {share(1 / self.candidates)} times"
        )
        if self.caught:
            return f"{text}, and the ledger allows {share(self.bound)}: this training does not keep its promise."
        return f"{text}, and no attack can be right more than {share(self.bound)} times."


def audit_reconstruction(
    privacy: Privacy,
    data: Dataset,
    architecture: Architecture,
    recipe: Recipe,
    *,
    known: int,
    candidates: int = 10,
    trials: int = 100,
    seed: int = 0,
) -> ReconstructionAudit:
    """Train many times on some known records and one of some candidates, and let the prior-aware attack find which.

    Hayes, Mahloujifar and Balle 2023 (arXiv 2302.07225). Each trial draws its records anew, and trains a second time
    without the candidate, which is the control.

    Args:
        privacy: what makes the training private.
        data: what records are drawn from.
        architecture: what is trained.
        recipe: how, by SGD. Its batch size is out of `known + 1` records.
        known: how many records the adversary knows.
        candidates: how many the unknown record may be.
        trials: how many.
        seed: of the draws and first weights.

    Raises:
        BadInputError: fewer records than known ones and candidates together, or what the attack refuses.
    """
    from divulge.privacy.tradeoff import most_reconstruction

    if known + candidates > len(data):
        raise BadInputError(
            f"reconstruction audit: expected {known + candidates} records or more, for {known} known ones and "
            f"{candidates} candidates, got {len(data)}."
        )
    rate = recipe.batch_size / (known + 1)
    right = {True: 0, False: 0}
    ledgers = {}
    for trial in range(trials):
        rng = np.random.default_rng((seed, trial))
        rows = rng.permutation(len(data))[: known + candidates]
        rest, choice = data[rows[:known]], data[rows[known:]]
        truth = int(rng.integers(candidates))
        for used in (True, False):
            records = concatenate([rest, choice[[truth]]]) if used else rest
            model = architecture.build(data.shape, data.num_classes, seed=int(rng.integers(2**31)))
            sized = replace(recipe, batch_size=max(1, round(rate * len(records))))
            recorder = Recorder(model)
            ledgers[used] = fit_private(model, records, sized, privacy, seed=trial, step_watch=recorder).ledger
            transcript = Transcript(model, torch.stack(recorder.weights), sized, privacy, ledgers[used])
            right[used] += PriorAware().run(transcript, known=rest, candidates=choice).best == truth
    control = _finding(right[False], trials)
    bound = float(most_reconstruction(ledgers[True], 1 / candidates))
    return ReconstructionAudit(
        ledgers[True], candidates, bound, replace(_finding(right[True], trials), control=control)
    )


def _finding(right: int, trials: int) -> Finding:
    low, high = clopper_pearson(right, trials)
    return Finding("right candidate named", right / trials, float(low), float(high), n=trials)
