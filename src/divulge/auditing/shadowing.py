"""Training a target's architecture anew: whether that can be done, for shadow models and under defenses to try."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from divulge.auditing.subject import PRIVATE, Subject
from divulge.auditing.train import Fresh, Training, shadow_steps, train
from divulge.defenses import Defense
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.runs.step import Step
from divulge.training import Recipe

ROWS = 16
"""Records of the trial that shows whether a torch module can be trained."""

QUICK = "the quick budget trains nothing"

ANEW = "none, trained anew"
"""What defenses in training are compared with: the target may have been trained by another recipe."""


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
        trial(subject, maker, ROWS, defense=subject.trained_under)
    except Exception as error:  # noqa: BLE001 - a person's module may raise anything
        return maker, f"training a fresh copy of {target.name} raised {type(error).__name__}: {error}"
    return maker, ""


def require_measurable(subject: Subject) -> None:
    """Raise unless every defense of `subject` can be tried on its target.

    Raises:
        BadInputError: no shadow models, without which there are no adversaries to try a defense on; or a defense that
            acts in training, of a target that divulge cannot train, or not under that defense.
    """
    for defense in subject.defenses:
        if not (defense.in_training or defense.in_response):
            raise BadInputError(
                f"defenses: {defense.name} acts on shared gradients, which a membership audit does not see. Audit the "
                "gradients, or leave it out."
            )
    maker, obstacle = shadow_maker(subject)
    if obstacle:
        raise BadInputError(
            f"defenses: each is tried against adversaries who train shadow models, but {obstacle}. Leave defenses out, "
            "or change that."
        )
    for defense in subject.retrained:
        where = f"defenses: {defense.name} acts in training"
        if maker is None:
            raise BadInputError(
                f"{where}, which only a torch module is trained anew for, and {subject.target.name} is a "
                f"{subject.target.kind}. Leave it out."
            )
        try:
            trial(subject, maker, ROWS, defense=defense, recipe=subject.recipe)
        except Exception as error:
            raise BadInputError(
                f"{where}, and training a fresh copy of {subject.target.name} under it raised {type(error).__name__}: "
                f"{error}"
            ) from error


def trial(
    subject: Subject,
    maker: Callable[[], nn.Module],
    rows: int,
    *,
    defense: Defense | None,
    recipe: Recipe | None = None,
) -> None:
    """Train a fresh copy under `defense` on the first few records, one epoch of `recipe`, or a plain one."""
    sample, defense = subject.corpus.part(*PRIVATE)[:rows], defense or Defense()
    size = max(2, min(subject.recipe.batch_size, len(sample) // 2))
    recipe = replace(recipe or Recipe(precision=subject.recipe.precision), epochs=1, batch_size=size)
    with seeded(0):
        model = maker()
    defense.train(defense.architecture(model), sample, recipe, seed=0, validation=sample)


def training(subject: Subject, maker: Callable[[], nn.Module], defense: Defense | None) -> Training:
    """How shadow models of a torch module are trained under `defense`."""
    return Training(
        architecture=Fresh(subject.target.fingerprint, maker),
        recipe=subject.recipe,
        parts=PRIVATE,
        answer=subject.answered,
        seed=subject.seed + 1,
        defense=defense,
        validation=subject.population,
    )


def retraining(subject: Subject) -> dict[str, dict[str, Step]]:
    """The models that defenses in training are tried on, by the defense's label and the name an attack knows them by.

    Each defense has a `target`, the architecture trained on the members under it, and `shadows...` of its own. Under
    `ANEW` stands the architecture trained as shadow models are.
    """
    maker, _ = shadow_maker(subject) if subject.retrained else (None, "")
    if maker is None:
        return {}
    steps = {ANEW: {"target": _alone(subject, training(subject, maker, subject.trained_under), "anew")}}
    for defense in subject.retrained:
        under = training(subject, maker, defense)
        shadows = shadow_steps(
            under,
            subject.data,
            like=subject.corpus.data,
            count=subject.budget.shadows,
            label=f"shadow under {defense.label}",
        )
        steps[defense.label] = {"target": _alone(subject, under, f"under {defense.label}"), **shadows}
    return steps


def _alone(subject: Subject, like: Training, how: str) -> Step:
    """One model trained on all members."""
    settings = replace(like, parts=PRIVATE[:1], seed=subject.seed)
    return Step(train, settings, {"data": subject.data}, label=f"model trained {how}")


def _no_clone(estimator: object) -> str:
    from sklearn.base import clone

    try:
        clone(estimator)
    except (TypeError, RuntimeError) as error:
        return f"{type(estimator).__name__} cannot be cloned: {error}"
    return ""
