"""Studies of membership inference under differential privacy: the promise, what is measured, and the accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from divulge.auditing.train import Training
from divulge.defenses import DEFENSES
from divulge.errors import BadInputError
from divulge.metrics import Estimate, auc, bootstrap, over_repeats, tpr_at_fpr, tpr_metric
from divulge.models import MODELS
from divulge.privacy import accounting, tradeoff
from divulge.privacy.bounds import BOUNDS
from divulge.privacy.ledger import Ledger
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Study
from divulge.studies.models import POOL, POPULATION, Models, halves, membership_attack, model_steps
from divulge.training import Recipe

DELTA = 1e-5
FAIR = np.linspace(0, 1, 1001)
"""False positive rates at which the most that an AUC can be is summed up."""


@dataclass(frozen=True)
class Level:
    """One way to train the targets.

    Args:
        row: its name in words.
        defense: `dp-sgd` with its settings, or none.
        recipe: how targets and shadows are trained.
    """

    row: str
    recipe: Recipe
    defense: dict[str, Any] | None = None


@dataclass(frozen=True)
class PromiseStudy(Study):
    """An adaptive adversary, who trains shadows under the same defense, against targets at each epsilon.

    Every model is trained on a random half of a pool; the first are targets in turn, the rest are shadows.

    Args:
        data: name of a data set in the catalog.
        model: the architecture of targets and shadows.
        levels: how they are trained.
        attacks: what is tried on each.
        bound: the lower bound of epsilon that is computed from each attack's scores.
        pool: candidates.
        population: further records, known to all not to be members; accuracy is measured on them.
        targets: how many models are attacked, even; numbers are means over them.
        shadows: models that the adversary trains, even.
        rate: the false positive rate at which true positives are counted.
        seed: of everything drawn.
    """

    name: ClassVar[str] = "promises"

    data: str
    model: dict[str, Any]
    levels: tuple[Level, ...]
    attacks: tuple[dict[str, Any], ...]
    pool: int
    population: int
    targets: int
    shadows: int
    bound: dict[str, Any] = field(default_factory=lambda: {"name": "one-run-f-dp"})
    rate: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if self.targets < 2 or self.targets % 2 or self.shadows % 2:
            raise BadInputError(
                f"{self.title}: expected even numbers of targets and of shadows, got {self.targets} and {self.shadows}."
            )

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """The models of each level; attacks are quick and run when the rows are made."""
        corpus = halves(self.data, pool=self.pool, population=self.population, seed=self.seed, data_dir=data_dir)
        steps: dict[str, Step] = {}
        for level in self.levels:
            training = Training(
                architecture=MODELS.make(self.model, where=self.title),
                recipe=level.recipe,
                parts=(POOL,),
                answer=(POOL, POPULATION),
                seed=self.seed,
                defense=DEFENSES.make(level.defense, where=self.title) if level.defense else None,
            )
            count = self.targets + self.shadows
            many = model_steps(training, corpus, store, count=count, label=f"{level.row}, model")
            steps |= {f"{level.row}/{name}": step for name, step in many.items()}
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """Level by level: the promise, each attack beside the most that the promise allows, the accuracy."""
        table: list[Row] = []
        for level in self.levels:
            parts = [done[name] for name in sorted(done) if name.startswith(f"{level.row}/")]
            models = Models.of(parts, pool=self.pool, targets=self.targets)
            ledger = Ledger.from_dict(parts[0].facts["ledger"][0]) if "ledger" in parts[0].facts else None
            right = over_repeats(models.accuracies())
            table.append(_row(level.row, "test accuracy", right, n=self.population, unit="%"))
            if ledger:
                table += self._promised(level.row, ledger)
            for spec in self.attacks:
                table += self._measured(level, spec, models)
        return table

    def _promised(self, row: str, ledger: Ledger) -> list[Row]:
        """What the ledger says no attack can exceed."""
        curve = tradeoff.most_true_positives(ledger, FAIR)
        most = float(tradeoff.most_true_positives(ledger, np.array([self.rate]))[0])
        area = float(np.trapezoid(curve, FAIR))
        spent = accounting.epsilon(ledger, delta=DELTA).epsilon
        promised = {"epsilon": spent, "largest AUC": area, f"largest {tpr_metric(self.rate)}": most}
        return [
            _row(row, metric, Estimate(value, value, value), n=ledger.records) for metric, value in promised.items()
        ]

    def _measured(self, level: Level, spec: Mapping[str, Any], models: Models) -> list[Row]:
        """One attack on every target; its control asks it about non-members, by an unrelated model's half."""
        attack, bound = membership_attack(spec, where=self.title), BOUNDS.make(self.bound, where=self.title)
        areas, nothing, rates, lows = [], [], [], []
        for target, (scores, truth) in enumerate(models.attacked(attack, shadows=self.shadows, seed=self.seed)):
            caught = tpr_at_fpr(scores, truth, fpr=self.rate)
            if caught is None:
                raise BadInputError(f"{self.title}: too few non-members for a false positive rate of {self.rate}.")
            areas.append(auc(scores, truth).value)
            nothing.append(auc(scores[~truth], models.unrelated(target)[~truth]).value)
            rates.append(caught.value)
            lows.append(bound.run(scores[truth], scores[~truth], delta=DELTA, seed=self.seed).epsilon)
        row, n = f"{level.row}, {attack.label}", self.pool * self.targets
        adversary = "adaptive" if level.defense else None
        return [
            _row(row, "AUC", _mean(areas), n=n, control=float(np.mean(nothing)), adversary=adversary),
            _row(row, tpr_metric(self.rate), _mean(rates), n=n, control=self.rate, adversary=adversary),
            _row(row, f"epsilon at least ({bound.name})", _mean(lows), n=n, adversary=adversary),
        ]


def _mean(values: list[float]) -> Estimate:
    return bootstrap(np.mean, np.array(values), seed=0)


def _row(
    row: str,
    metric: str,
    estimate: Estimate,
    *,
    n: int,
    unit: str = "1",
    control: float | None = None,
    adversary: str | None = None,
) -> Row:
    scale = 100 if unit == "%" else 1
    value, low, high = (scale * number for number in estimate)
    return Row(row, metric, unit, None, value, low, high, n, control, adversary)
