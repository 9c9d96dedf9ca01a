"""Whether a target can be trained anew, which shadow models take."""

from collections.abc import Callable

from torch import nn

from divulge.auditing.subject import PRIVATE, Subject
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.training import Recipe, fit

ROWS = 16
"""Records of the trial that shows whether a torch module can be trained."""

QUICK = "the quick budget trains nothing"


def shadow_maker(subject: Subject) -> tuple[Callable[[], nn.Module] | None, str]:
    """What makes an untrained copy of a torch module, None for any other target; and why no shadow model can be trained
    of the target, in words, empty where some can.
    """
    target = subject.target
    if not target.has_inputs:
        return None, "only a table of answers was given, and without the model none of its kind can be trained"
    if target.refit is not None:
        return None, _no_clone(target.estimator) if subject.budget.shadows else QUICK
    try:
        maker = target.architecture()
    except BadInputError as error:
        return None, str(error)
    if maker is None:
        return None, (
            f"a {target.kind} cannot be trained anew; audit the torch module or scikit-learn classifier behind it"
        )
    if not subject.budget.shadows:
        return maker, QUICK
    try:
        trial(subject, maker, ROWS)
    except Exception as error:  # noqa: BLE001 - a person's module may raise anything
        return maker, f"training a fresh copy of {target.name} raised {type(error).__name__}: {error}"
    return maker, ""


def trial(subject: Subject, maker: Callable[[], nn.Module], rows: int) -> None:
    """Train a fresh copy on the first few records, once."""
    sample, defense = subject.corpus.part(*PRIVATE)[:rows], subject.trained_under
    size = max(2, min(subject.recipe.batch_size, len(sample) // 2))
    with seeded(0):
        model = maker()
    model = defense.architecture(model) if defense else model
    fit(model, sample, Recipe(epochs=1, batch_size=size, precision=subject.recipe.precision), seed=0)


def _no_clone(estimator: object) -> str:
    from sklearn.base import clone

    try:
        clone(estimator)
    except (TypeError, RuntimeError) as error:
        return f"{type(estimator).__name__} cannot be cloned: {error}"
    return ""
