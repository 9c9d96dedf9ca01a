"""Studies that compare membership attacks over the number of shadow models, on the same targets and shadows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from divulge.attacks.membership import MembershipAttack
from divulge.auditing.train import Training
from divulge.errors import BadInputError
from divulge.metrics import auc, bootstrap, tpr_at_fpr, tpr_metric
from divulge.models import MODELS
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Study
from divulge.studies.models import POOL, POPULATION, Models, halves, membership_attack, model_steps
from divulge.training import Recipe


@dataclass(frozen=True)
class Setting:
    """One data set and the models trained on it.

    Args:
        data: name of a data set in the catalog.
        model: the architecture of targets and shadows.
        recipe: how they are trained.
        pool: candidates, of which every model is trained on a random half.
        population: further records, known to all not to be members.
    """

    data: str
    model: dict[str, Any]
    pool: int
    population: int
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class BudgetStudy(Study):
    """Membership attacks at each number of shadow models, every attack on the same targets with the same shadows.

    The first models of the design are targets in turn, the rest are shadows; a target's twin, trained on exactly the
    other records, is not among its shadows.

    Args:
        settings: data sets and models.
        attacks: what is compared.
        budgets: numbers of shadow models, even.
        targets: how many models are attacked, even; numbers are means over them.
        rate: the false positive rate at which true positives are counted.
        seed: of everything drawn.
    """

    name: ClassVar[str] = "budgets"

    settings: tuple[Setting, ...]
    attacks: tuple[dict[str, Any], ...]
    budgets: tuple[int, ...]
    targets: int
    rate: float = 0.01
    seed: int = 0

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """Data and models of each setting; attacks are quick and run when the rows are made."""
        steps: dict[str, Step] = {}
        for one in self.settings:
            corpus = halves(one.data, pool=one.pool, population=one.population, seed=self.seed, data_dir=data_dir)
            training = Training(
                architecture=MODELS.make(one.model, where=self.title),
                recipe=one.recipe,
                parts=(POOL,),
                answer=(POOL, POPULATION),
                seed=self.seed,
            )
            count = self.targets + max(self.budgets)
            many = model_steps(training, corpus, store, count=count, label=f"{one.data} model")
            steps |= {f"{one.data}/{name}": step for name, step in many.items()}
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """Mean over targets of each attack's AUC and true positive rate, the interval over targets."""
        attacks = [membership_attack(spec, where=self.title) for spec in self.attacks]
        table: list[Row] = []
        for one in self.settings:
            parts = [done[name] for name in sorted(done) if name.startswith(f"{one.data}/")]
            models = Models.of(parts, pool=one.pool, targets=self.targets)
            for budget in self.budgets:
                for attack in attacks:
                    areas, rates, nothing = self._measure(attack, models, budget)
                    row = f"{one.data}, {budget} shadows, {attack.label}"
                    table.append(_mean(row, "AUC", areas, one.pool, control=float(nothing.mean())))
                    table.append(_mean(row, tpr_metric(self.rate), rates, one.pool, control=self.rate))
        return table

    def _measure(
        self, attack: MembershipAttack, models: Models, budget: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """AUC and true positive rate on each target, and as a control the AUC where no record was a member of it."""
        areas, rates, nothing = [], [], []
        for target, (scores, truth) in enumerate(models.attacked(attack, shadows=budget, seed=self.seed)):
            caught = tpr_at_fpr(scores, truth, fpr=self.rate)
            if caught is None:
                raise BadInputError(f"{self.title}: too few non-members for a false positive rate of {self.rate}.")
            areas.append(auc(scores, truth).value)
            rates.append(caught.value)
            nothing.append(auc(scores[~truth], models.unrelated(target)[~truth]).value)
        return np.array(areas), np.array(rates), np.array(nothing)


def _mean(row: str, metric: str, values: np.ndarray, n: int, *, control: float) -> Row:
    mean = bootstrap(np.mean, values, seed=0)
    n *= len(values)
    return Row(row, metric, "1", None, mean.value, mean.low, mean.high, n=n, control=control, adversary=None)
