"""The step that runs one membership attack on what target and shadows answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from divulge.attacks.membership import MembershipAttack, MembershipScores, Signals, View
from divulge.auditing.corpus import Corpus, opened
from divulge.defenses import Defense
from divulge.errors import BadInputError
from divulge.releases import FLOOR
from divulge.runs.step import Artifact, Context


@dataclass(frozen=True)
class Scene:
    """Whom a membership attack is tried on, and what its adversary knows.

    Args:
        candidates: parts whose membership is asked.
        population: part known not to be in the target's training set.
        shadowed: parts on which shadow memberships train an attack model; the candidates if empty.
        respond: the defense at the response door that the target's answers passed.
        adaptive: whether the adversary puts its shadows' answers through it as well.
        epoch: ask models as they were after this epoch; after the last if None.
        inputs: whether the attack may look at the records.
        control: put shadow models in the target's place, on records that they never saw.
    """

    candidates: tuple[str, ...]
    population: str | None = None
    shadowed: tuple[str, ...] = ()
    respond: Defense | None = None
    adaptive: bool = True
    epoch: int | None = None
    inputs: bool = False
    control: bool = False


@dataclass(frozen=True)
class Attempt:
    """Settings of a step that runs one membership attack.

    Args:
        attack: which.
        scene: on whom.
        seed: of whatever the attack draws.
    """

    attack: MembershipAttack
    scene: Scene
    seed: int = 0


def attack(settings: Attempt, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
    """Run one attack on what the models `target` and `shadows...` among the inputs answered.

    Returns:
        Array `scores` float64 `(n,)` in the order of the candidates, `decisions` bool where the attack decides itself.
    """
    scene = settings.scene
    view = look(opened(inputs["data"], inputs=scene.inputs), scene, inputs)
    evidence = control(view, settings) if settings.scene.control else settings.attack.run(view, seed=settings.seed)
    arrays: dict[str, Any] = {"scores": evidence.scores}
    if evidence.decisions is not None:
        arrays["decisions"] = evidence.decisions
    return Artifact(arrays, dict(evidence.facts))


def look(corpus: Corpus, scene: Scene, models: Mapping[str, Artifact]) -> View:
    """What an adversary sees: the answers of `target` and `shadows...` about each group of records."""
    shadows = [artifact for name, artifact in sorted(models.items()) if name.startswith("shadows")]

    def signals(parts: tuple[str, ...], *, target: Artifact | None) -> Signals:
        told = [_answers(one, corpus, parts, scene.epoch) for one in shadows]
        adaptive = scene.respond if scene.adaptive else None
        return Signals(
            labels=corpus.data.targets.numpy()[corpus.rows(parts)],
            target=None
            if target is None
            else _through(scene.respond, _answers(target, corpus, parts, scene.epoch)[0][0]),
            shadows=np.concatenate([_through(adaptive, values) for values, _ in told]) if told else None,
            members=np.concatenate([inside for _, inside in told]) if told else None,
            inputs=corpus.part(*parts).inputs.flatten(1).numpy() if scene.inputs else None,
        )

    target = models.get("target")
    return View(
        candidates=signals(scene.candidates, target=target),
        population=signals((scene.population,), target=target) if scene.population else None,
        shadowed=signals(scene.shadowed, target=None) if scene.shadowed else None,
    )


def control(view: View, settings: Attempt) -> MembershipScores:
    """The same attack where there is nothing to find: a shadow model in the target's place, on records it never saw.

    Where shadows come in complementary pairs, each of the first two is attacked on the records that only the other one
    saw, so that together they cover all candidates.

    Raises:
        BadInputError: there are no shadow models, or just one pair of them.
    """
    candidates = view.candidates
    if candidates.shadows is None:
        raise BadInputError("a control needs at least one shadow model.")
    members = _members(candidates)
    if not members[0].any():
        return settings.attack.run(_posing(view, 0, np.ones(len(candidates), dtype=bool), ()), seed=settings.seed)
    if len(members) < 4 or (members[0] == members[1]).any():
        raise BadInputError("a control among shadow models needs two complementary pairs of them, or more.")
    scores, decisions = np.zeros(len(candidates)), np.zeros(len(candidates), dtype=bool)
    decides = False
    for posing, twin in ((0, 1), (1, 0)):
        # The twin saw every record in question: an attack that learns from the first shadow could not learn from it.
        others = (*range(2, len(members)), twin)
        evidence = settings.attack.run(_posing(view, posing, ~members[posing], others), seed=settings.seed)
        scores[~members[posing]] = evidence.scores
        if evidence.decisions is not None:
            decisions[~members[posing]], decides = evidence.decisions, True
    return MembershipScores(scores, settings.attack.name, decisions if decides else None)


def _posing(view: View, number: int, chosen: np.ndarray, others: tuple[int, ...]) -> View:
    """The view with shadow `number` as the target of the chosen candidates and `others` as the shadows."""

    def posed(signals: Signals, rows: np.ndarray) -> Signals:
        shadows = signals.shadows
        assert shadows is not None
        return Signals(
            labels=signals.labels[rows],
            target=shadows[number][rows],
            shadows=shadows[list(others)][:, rows] if others else None,
            members=_members(signals)[list(others)][:, rows] if others else None,
            inputs=None if signals.inputs is None else signals.inputs[rows],
        )

    population = view.population
    return View(
        candidates=posed(view.candidates, chosen),
        population=None if population is None else posed(population, np.ones(len(population), dtype=bool)),
        shadowed=view.shadowed,
    )


def _members(signals: Signals) -> np.ndarray:
    assert signals.members is not None
    return signals.members


def _answers(model: Artifact, corpus: Corpus, parts: Sequence[str], epoch: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Logits `(models, n, C)` and memberships `(models, n)` of an artifact about the records of some parts."""
    name = "logits" if epoch is None or f"logits@{epoch}" not in model.arrays else f"logits@{epoch}"
    sizes = [len(corpus.parts[part]) for part in model.facts["answer"]]
    starts = dict(zip(model.facts["answer"], np.cumsum([0, *sizes]), strict=False))
    columns = np.concatenate([np.arange(starts[part], starts[part] + len(corpus.parts[part])) for part in parts])
    return np.asarray(model.arrays[name])[:, columns], np.asarray(model.arrays["members"])[:, columns]


def _through(defense: Defense | None, logits: np.ndarray) -> np.ndarray:
    """Logits `(..., C)` as they look after the defense at the response door."""
    if defense is None:
        return logits
    flat = logits.reshape(-1, logits.shape[-1]).astype(np.float64)
    flat = np.exp(flat - flat.max(axis=1, keepdims=True))
    told = defense.respond(flat / flat.sum(axis=1, keepdims=True))
    return np.log(np.maximum(told, FLOOR)).reshape(logits.shape)
