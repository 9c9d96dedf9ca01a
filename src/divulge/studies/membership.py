"""Studies of membership inference: one target, one shadow, four disjoint parts, and stronger attacks on the target."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from divulge.attacks import ATTACKS
from divulge.attacks.membership import MembershipAttack
from divulge.auditing.attack import Attempt, Scene, attack
from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.train import Design, Training, shadow_steps, train
from divulge.data import Dataset, concatenate, copies, load, split
from divulge.data.catalog import named_set
from divulge.defenses import DEFENSES, Defense
from divulge.errors import BadInputError
from divulge.metrics import Finding, accuracy, score_membership
from divulge.models import MODELS, Architecture
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store
from divulge.studies.base import Row, Study, percent
from divulge.training import Recipe

CANDIDATES = ("target_in", "target_out")
SHADOWED = ("shadow_in", "shadow_out")


@dataclass(frozen=True)
class Case:
    """One row of the published tables.

    Args:
        row: its name in words.
        posteriors: how many of the largest posteriors the attack model reads.
        epochs: how long target and shadow were trained.
        defended: whether under the study's defense.
        published: the literature's per cents, by metric: `target train accuracy`, `target test accuracy`,
            `shadow train accuracy`, `shadow test accuracy`, `attack train accuracy`, `accuracy`, `macro precision`,
            `macro recall`, `macro F1`.
    """

    row: str
    posteriors: int
    epochs: int
    defended: bool = False
    published: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MembershipStudy(Study):
    """A target and a shadow on disjoint quarters of a data set, attacked by ML-Leaks and by stronger attacks.

    Args:
        data: name of a data set in the catalog.
        target: the target's architecture.
        shadow: the shadow's.
        recipe: how both are trained; each case sets the epochs.
        defense: what protects the defended targets.
        cases: the published rows.
        attacks: further attacks on the same targets, of which the older work knew nothing.
        part: records in each of the four parts.
        validation: rows of the test set each model is validated on.
        shadows: shadow models for the further attacks, each on a random half of the target's candidates.
        shadow_epochs: how long those are trained; as long as the target if None.
        seed: of splits, weights and attacks.
    """

    name: ClassVar[str] = "membership"

    data: str
    target: dict[str, Any]
    shadow: dict[str, Any]
    cases: tuple[Case, ...]
    attacks: tuple[dict[str, Any], ...]
    part: int
    validation: int
    shadows: int
    shadow_epochs: int | None = None
    recipe: Recipe = field(default_factory=Recipe)
    defense: dict[str, Any] = field(default_factory=lambda: {"name": "dropout"})
    seed: int = 0

    def corpus(self, data_dir: Path | None) -> Corpus:
        """The four parts and the validation rows, disjoint and free of copies across parts."""
        training = load(self.data, data_dir=data_dir)
        sizes = dict.fromkeys((*CANDIDATES, *SHADOWED), self.part)
        validation = dict.fromkeys(("target_valid", "shadow_valid"), self.validation)
        if "test" not in named_set(self.data).counts:
            return Corpus(training, split(training, {**sizes, **validation}, seed=self.seed).rows)
        held_out = load(self.data, part="test", data_dir=data_dir)
        fresh = np.flatnonzero(~copies(held_out, of=training))
        valid = split(held_out[fresh], validation, seed=self.seed)
        rows = dict(split(training, sizes, seed=self.seed).rows)
        rows |= {name: len(training) + fresh[own] for name, own in valid.rows.items()}
        return Corpus(concatenate([training, held_out]), rows)

    def steps(self, store: Store, *, data_dir: Path | None) -> dict[str, Step]:
        """The graph: data, targets, shadows, attacks and their controls."""
        corpus = self.corpus(data_dir)
        data = keep(corpus, store)
        steps: dict[str, Step] = {}
        for defended in sorted({case.defended for case in self.cases}):
            steps |= self._models(data, corpus.data, defended=defended)
        for case in self.cases:
            leaks = self._attack({"name": "ml-leaks", "posteriors": case.posteriors})
            models = {"target": steps[_name("target", case)], "shadows": steps[_name("shadow", case)]}
            for control in (False, True):
                scene = Scene(CANDIDATES, shadowed=SHADOWED, epoch=case.epochs, control=control)
                steps[_attempt(case, "ml-leaks", "", control)] = self._attack_step(leaks, scene, data, models)
        for case in self._last_cases():
            for adversary in ("blind", "adaptive") if case.defended else ("adaptive",):
                references = self._references(steps, defended=case.defended and adversary == "adaptive")
                models = {"target": steps[_name("target", case)], **references}
                for spec in self.attacks:
                    for control in (False, True):
                        scene = Scene(CANDIDATES, population="shadow_out", control=control)
                        step = self._attack_step(self._attack(spec), scene, data, models)
                        steps[_attempt(case, _spec_name(spec), adversary, control)] = step
        return steps

    def rows(self, done: Mapping[str, Artifact]) -> list[Row]:
        """The published numbers beside ours, then what the older work did not report."""
        table: list[Row] = []
        truth = np.repeat([True, False], self.part)
        for case in self.cases:
            for who in ("target", "shadow"):
                table += self._accuracies(case, who, done[_name(who, case)])
            evidence = done[_attempt(case, "ml-leaks", "", False)]
            null = done[_attempt(case, "ml-leaks", "", True)]
            findings = score_membership(
                evidence.arrays["scores"],
                truth,
                decisions=evidence.arrays["decisions"],
                control=(null.arrays["scores"], truth, null.arrays["decisions"]),
                adversary="adaptive" if case.defended else None,
            )
            own = evidence.facts["train_accuracy"]
            trained = Finding("attack train accuracy", own, own, own, n=2 * self.part)
            for finding in (trained, *findings.values()):
                row = f"ML-Leaks, {case.row}"
                table.append(percent(finding, row=row, published=case.published.get(finding.metric)))
        for case in self._last_cases():
            for adversary in ("blind", "adaptive") if case.defended else ("adaptive",):
                for spec in self.attacks:
                    name = _spec_name(spec)
                    evidence = done[_attempt(case, name, adversary, False)]
                    null = done[_attempt(case, name, adversary, True)]
                    findings = score_membership(
                        evidence.arrays["scores"],
                        truth,
                        control=(null.arrays["scores"], truth),
                        adversary=adversary if case.defended else None,
                    )
                    row = f"{name}, {self.shadows} shadows, {'defended' if case.defended else f'{case.epochs} epochs'}"
                    table += [percent(finding, row=row, published=None) for finding in findings.values()]
        return table

    def _models(self, data: Step, like: Dataset, *, defended: bool) -> dict[str, Step]:
        """Target, shadow and the further shadows, with or without the defense."""
        cases = [case for case in self.cases if case.defended == defended]
        longest = max(case.epochs for case in cases)
        # The learning rate depends on the epoch alone, so a shorter training is the longer one, looked at earlier.
        shared = Training(
            architecture=self._architecture(self.target),
            recipe=replace(self.recipe, epochs=longest),
            parts=("target_in",),
            answer=(*CANDIDATES, *SHADOWED),
            seed=self.seed,
            defense=self._defense() if defended else None,
            validation="target_valid",
            epochs=tuple(sorted({case.epochs for case in cases} - {longest})),
        )
        half = replace(
            shared, architecture=self._architecture(self.shadow), seed=self.seed + 1, validation="shadow_valid"
        )
        label = "defended " if defended else ""
        single = Step(train, shared, {"data": data}, label=f"{label}target", cost=4.0)
        twin = Step(train, replace(half, parts=("shadow_in",)), {"data": data}, label=f"{label}shadow")
        steps = {f"target/{defended}": single, f"shadow/{defended}": twin}
        many = replace(
            half,
            recipe=replace(self.recipe, epochs=self.shadow_epochs or longest),
            parts=CANDIDATES,
            answer=(*CANDIDATES, "shadow_out"),
            seed=self.seed + 100,
            epochs=(),
            design=Design(0, self.shadows, self.seed),
        )
        for name, step in shadow_steps(many, data, like=like, count=self.shadows, label=f"{label}shadow").items():
            steps[f"reference/{defended}/{name}"] = step
        return steps

    def _references(self, steps: Mapping[str, Step], *, defended: bool) -> dict[str, Step]:
        prefix = f"reference/{defended}/"
        return {name.removeprefix(prefix): step for name, step in steps.items() if name.startswith(prefix)}

    def _last_cases(self) -> list[Case]:
        """The longest-trained case with and without the defense: the targets of the further attacks."""
        groups = [[case for case in self.cases if case.defended == defended] for defended in (False, True)]
        return [max(group, key=lambda case: case.epochs) for group in groups if group]

    def _accuracies(self, case: Case, who: str, model: Artifact) -> list[Row]:
        """Accuracy of a model on the records it was trained on and on as many others."""
        logits = model.arrays.get(f"logits@{case.epochs}", model.arrays["logits"])[0]
        right = logits.argmax(axis=1) == np.asarray(model.arrays["labels"])
        inside = np.asarray(model.arrays["members"])[0]
        first = 0 if who == "target" else 2 * self.part
        outside = np.zeros_like(inside)
        outside[first + self.part : first + 2 * self.part] = True
        rows = []
        for metric, mask in (("train accuracy", inside), ("test accuracy", outside)):
            estimate = accuracy(np.ones(int(mask.sum()), dtype=bool), right[mask])
            finding = Finding(f"{who} {metric}", *estimate, n=int(mask.sum()))
            rows.append(percent(finding, row=f"{who}, {case.row}", published=case.published.get(finding.metric)))
        return rows

    def _attack_step(self, one: MembershipAttack, scene: Scene, data: Step, models: Mapping[str, Step]) -> Step:
        label = f"{one.name}{' (control)' if scene.control else ''}"
        return Step(attack, Attempt(one, scene, seed=self.seed), {"data": data, **models}, label=label, cost=0.1)

    def _architecture(self, spec: dict[str, Any]) -> Architecture:
        return MODELS.make(spec, where=self.title)

    def _defense(self) -> Defense:
        return DEFENSES.make(self.defense, where=self.title)

    def _attack(self, spec: dict[str, Any]) -> MembershipAttack:
        made = ATTACKS.make({key: value for key, value in spec.items() if key != "as"}, where=self.title)
        if not isinstance(made, MembershipAttack):
            raise BadInputError(f"{self.title}: expected membership attacks, got {spec['name']!r}.")
        return made


def _name(who: str, case: Case) -> str:
    return f"{who}/{case.defended}"


def _spec_name(spec: Mapping[str, Any]) -> str:
    return spec.get("as", spec["name"])


def _attempt(case: Case, name: str, adversary: str, control: bool) -> str:
    return f"attack/{case.row}/{name}/{adversary}/{'control' if control else 'real'}"
