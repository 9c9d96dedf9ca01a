"""What an audit hands to each of its probes."""

from dataclasses import dataclass, field

from divulge.auditing.corpus import Corpus
from divulge.auditing.promise import Promise
from divulge.auditing.targets import Target
from divulge.defenses import Defense
from divulge.errors import BadInputError
from divulge.runs.engines import Engine
from divulge.runs.progress import Progress
from divulge.runs.step import Step
from divulge.runs.store import Store
from divulge.training import Recipe

PRIVATE = ("members", "nonmembers")
POPULATION = "population"


@dataclass(frozen=True)
class Budget:
    """How much an audit may spend.

    Args:
        name: what to call it.
        records: at most this many members, and as many non-members, are asked about.
        shadows: shadow models to train; 0 trains nothing.
    """

    name: str
    records: int
    shadows: int


BUDGETS = {
    "quick": Budget("quick", 5_000, 0),
    "standard": Budget("standard", 12_500, 4),
    "thorough": Budget("thorough", 50_000, 16),
}


def budget(name: str) -> Budget:
    """The budget called `name`.

    Raises:
        BadInputError: no such budget.
    """
    if name not in BUDGETS:
        raise BadInputError(f"budget: expected one of {', '.join(BUDGETS)}, got {name!r}.")
    return BUDGETS[name]


@dataclass(frozen=True, eq=False)
class Subject:
    """The model under audit, the records, and the means.

    Args:
        target: the model.
        corpus: records, with the parts `members`, `nonmembers` and, where there are non-members to spare, `population`.
        data: the corpus as a step of the run's graph.
        budget: how much may be spent.
        recipe: how shadow models are trained.
        trained_under: the defense the target was trained under, if it is known; shadows are trained under it too.
        defenses: defenses to try on the target.
        promise: what the ledger of its private training promises, if there is one.
        weights: whether others get to see the weights, and not only answers.
        given: training records that were given; the part `members` may be a sample of them.
        spare: records that the target may be asked about beyond those of the corpus; None for no limit.
        seed: of everything drawn.
        store: where steps are kept.
        engine: what runs them.
        progress: told about them.
    """

    target: Target
    corpus: Corpus
    data: Step
    budget: Budget
    recipe: Recipe
    trained_under: Defense | None
    seed: int
    store: Store
    engine: Engine
    progress: Progress | None
    defenses: tuple[Defense, ...] = field(default=())
    promise: Promise | None = None
    weights: bool = False
    given: int = 0
    spare: int | None = None

    @property
    def answered(self) -> tuple[str, ...]:
        """The parts about which models are asked."""
        return (*PRIVATE, POPULATION) if self.population else PRIVATE

    @property
    def retrained(self) -> tuple[Defense, ...]:
        """The defenses to try that the architecture must be trained anew for."""
        return tuple(one for one in self.defenses if one.in_training)

    @property
    def population(self) -> str | None:
        """The part of known non-members besides the candidates, if there is one."""
        return POPULATION if len(self.corpus.parts.get(POPULATION, ())) else None
