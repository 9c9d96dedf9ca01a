"""Studies that compare membership attacks over the number of shadow models, on the same targets and shadows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from divulge.attacks import ATTACKS
from divulge.attacks.membership import MembershipAttack, Signals, View
from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.train import Training, shadow_steps
from divulge.data import load, split
from divulge.errors import BadInputError
from divulge.metrics import auc, bootstrap, tpr_at_fpr, tpr_metric
from divulge.models import MODELS
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Study
from divulge.training import Recipe

POOL, POPULATION = "pool", "population"


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
            data = load(one.data, data_dir=data_dir)
            corpus = Corpus(data, split(data, {POOL: one.pool, POPULATION: one.population}, seed=self.seed).rows)
            training = Training(
                architecture=MODELS.make(one.model, where=self.title),
                recipe=one.recipe,
                parts=(POOL,),
                answer=(POOL, POPULATION),
                seed=self.seed,
            )
            count = self.targets + max(self.budgets)
            many = shadow_steps(training, keep(corpus, store), like=data, count=count, label=f"{one.data} model")
            steps |= {f"{one.data}/{name}": step for name, step in many.items()}
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """Mean over targets of each attack's AUC and true positive rate, the interval over targets."""
        attacks = [self._attack(spec) for spec in self.attacks]
        table: list[Row] = []
        for one in self.settings:
            parts = [done[name] for name in sorted(done) if name.startswith(f"{one.data}/")]
            logits = np.concatenate([np.asarray(part.arrays["logits"]) for part in parts])
            members = np.concatenate([np.asarray(part.arrays["members"]) for part in parts])
            labels = np.asarray(parts[0].arrays["labels"])
            for budget in self.budgets:
                for attack in attacks:
                    areas, rates = self._measure(attack, logits, members, labels, one.pool, budget)
                    row = f"{one.data}, {budget} shadows, {attack.label}"
                    table.append(_mean(row, "AUC", areas, one.pool))
                    table.append(_mean(row, tpr_metric(self.rate), rates, one.pool))
        return table

    def _measure(
        self,
        attack: MembershipAttack,
        logits: np.ndarray,
        members: np.ndarray,
        labels: np.ndarray,
        pool: int,
        budget: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """AUC and true positive rate on each target."""
        shadows = slice(self.targets, self.targets + budget)
        areas, rates = [], []
        for target in range(self.targets):

            def signals(rows: slice, target: int = target) -> Signals:
                return Signals(labels[rows], logits[target][rows], logits[shadows, rows], members[shadows, rows])

            evidence = attack.run(View(signals(slice(pool)), signals(slice(pool, None))), seed=self.seed)
            truth = members[target][:pool]
            caught = tpr_at_fpr(evidence.scores, truth, fpr=self.rate)
            if caught is None:
                raise BadInputError(f"{self.title}: too few non-members for a false positive rate of {self.rate}.")
            areas.append(auc(evidence.scores, truth).value)
            rates.append(caught.value)
        return np.array(areas), np.array(rates)

    def _attack(self, spec: dict[str, Any]) -> MembershipAttack:
        made = ATTACKS.make(spec, where=self.title)
        if not isinstance(made, MembershipAttack):
            raise BadInputError(f"{self.title}: expected membership attacks, got {spec['name']!r}.")
        return made


def _mean(row: str, metric: str, values: np.ndarray, n: int) -> Row:
    mean = bootstrap(np.mean, values, seed=0)
    chance = 0.5 if metric == "AUC" else None
    return Row(
        row, metric, "1", None, mean.value, mean.low, mean.high, n=n * len(values), control=chance, adversary=None
    )
