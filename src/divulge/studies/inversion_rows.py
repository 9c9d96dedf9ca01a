"""The rows of a study of inversion: accuracy, privacy, whom the drawings show, and where they show nobody."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from divulge.auditing.corpus import Corpus
from divulge.data import Dataset
from divulge.metrics import Estimate, Finding, bootstrap, over_repeats
from divulge.metrics.images import psnr, ssim
from divulge.metrics.recognition import Recognition, recognize
from divulge.privacy import accounting
from divulge.privacy.ledger import Ledger
from divulge.privacy.tradeoff import most_reconstruction
from divulge.runs.step import Artifact
from divulge.studies.base import Row, percent

Measure = Callable[[Tensor], Tensor]
DELTA = 1e-5
COARSE = (*(1 + step / 10 for step in range(1, 100)), *range(12, 64))
"""The Renyi orders that tools of 2020 looked at by default: too few below 1.1, where large epsilons are decided."""


@dataclass(frozen=True, eq=False)
class Photographs:
    """What drawings are held against.

    Args:
        train: those the classifiers learned from.
        held_out: those that name the drawings.
        means: of each person's photographs in training.
    """

    train: Dataset
    held_out: Dataset
    means: Tensor

    @classmethod
    def of(cls, corpus: Corpus) -> "Photographs":
        """The parts of a corpus."""
        train = corpus.part("train")
        means = [train.inputs[train.targets == person].mean(dim=0) for person in range(train.num_classes)]
        return cls(train, corpus.part("held_out"), torch.stack(means))

    @property
    def each(self) -> int:
        """How many photographs of one person are trained on, at most."""
        return int(self.train.targets.bincount().max())

    def rows(self, opinion: Artifact | None) -> list[Row]:
        """What the mean photograph of each person gives, and that of the next person in its place."""
        row, another = "mean photograph of each person", "mean photograph of another person"
        right, wrong = self._named(self.means[None]), self._named(self.means.roll(1, dims=0)[None])
        rows = [_recognized(row, right, count, None) for count in (1, 5)]
        rows += [_recognized(another, wrong, count, None) for count in (1, 5)]
        if opinion is not None:
            rows += [_by_face_model(row, self._ranked([opinion]), count, None) for count in (1, 5)]
        return rows

    def shown(
        self,
        row: str,
        drawn: Sequence[Artifact],
        nothing: Sequence[Artifact],
        *,
        published: Mapping[str, float],
        adversary: str | None,
    ) -> list[Row]:
        """Whom drawings of networks of several seeds show, beside those of untrained networks."""
        images, blank = (torch.stack([_inputs(one) for one in part]) for part in (drawn, nothing))
        named, chance = self._named(images), self._named(blank)
        rows = [_recognized(row, named, count, chance, published=published) for count in (1, 5)]
        rows.append(self._alike(row, "SSIM with the mean photograph", "1", images, blank, self._to_mean))
        rows.append(self._alike(row, "PSNR to the mean photograph", "dB", images, blank, self._psnr_to_mean))
        rows.append(self._alike(row, "SSIM with the nearest photograph in training", "1", images, blank, self._nearest))
        if queries := int(drawn[0].facts["queries"]):
            rows.append(
                Row(row, "queries for each person", "1", None, queries, None, None, len(self.means), None, None)
            )
        return [replace(one, adversary=adversary) for one in rows]

    def judged(
        self, row: str, drawn: Sequence[Artifact], nothing: Sequence[Artifact], *, adversary: str | None
    ) -> list[Row]:
        """Whom the pretrained face model takes them for."""
        named, chance = self._ranked(drawn), self._ranked(nothing)
        rows = [_by_face_model(row, named, count, chance) for count in (1, 5)]
        return [replace(one, adversary=adversary) for one in rows]

    def _alike(self, row: str, metric: str, unit: str, images: Tensor, blank: Tensor, measure: Measure) -> Row:
        alike, other = (
            torch.stack([measure(one) for one in part]).mean(dim=0).numpy().astype(np.float64)
            for part in (images, blank)
        )
        mean = bootstrap(np.mean, alike, seed=0)  # over people; the networks of one person are no new victims
        return Row(row, metric, unit, None, *mean, len(alike), float(other.mean()), None)

    def _to_mean(self, images: Tensor) -> Tensor:
        return ssim(images, self.means)

    def _psnr_to_mean(self, images: Tensor) -> Tensor:
        return psnr(images, self.means)

    def _nearest(self, images: Tensor) -> Tensor:
        """SSIM of each drawing with that photograph of its person in training that is most like it."""
        best = []
        for person, image in enumerate(images):
            own = self.train.inputs[self.train.targets == person]
            best.append(ssim(image.expand_as(own), own).max())
        return torch.stack(best)

    def _named(self, drawn: Tensor) -> Recognition:
        """Drawings `(seeds, people, *shape)` named by the photographs that were held out."""
        people = torch.arange(drawn.shape[1]).repeat(len(drawn))
        return recognize(drawn.flatten(0, 1), people, self.held_out.inputs, self.held_out.targets)

    def _ranked(self, judged: Sequence[Artifact]) -> Recognition:
        ranks = torch.cat([torch.from_numpy(np.asarray(one.arrays["rank"])) for one in judged])
        return Recognition(ranks, torch.arange(len(self.means)).repeat(len(judged)), len(self.means))


def accuracies(row: str, trained: Sequence[Artifact], published: Mapping[str, float], *, each: int) -> list[Row]:
    """How well networks of several seeds, all trained on the same photographs, classify; what private ones promise."""
    inside = np.asarray(trained[0].arrays["members"])[0]
    right = np.stack(
        [np.asarray(target.arrays["logits"])[0].argmax(axis=1) == target.arrays["labels"] for target in trained]
    )
    rows = []
    for metric, mask in (("training accuracy", inside), ("validation accuracy", ~inside)):
        finding = Finding(metric, *over_repeats(right[:, mask]), n=int(mask.sum()))
        rows.append(percent(finding, row=row, published=published.get(metric)))
    if "ledger" in trained[0].facts:
        ledger = Ledger.from_dict(trained[0].facts["ledger"][0])
        people = int(np.asarray(trained[0].arrays["labels"]).max()) + 1
        rows += _promised(row, ledger, published, people=people, each=each)
    return rows


def threshold_rows(row: str, found: Sequence[Artifact], *, people: int, each: int) -> list[Row]:
    """The noise, and the epsilon, from which no more people are named than by chance, over independent searches."""
    noises = np.array([one.facts["threshold"] for one in found])
    ledgers = [
        _at_noise(Ledger.from_dict(one.facts["ledger"]), noise) for one, noise in zip(found, noises, strict=True)
    ]
    epsilons = np.array([accounting.epsilon(ledger, delta=DELTA).epsilon for ledger in ledgers])
    older = np.array(
        [accounting.epsilon(ledger, delta=DELTA, accountant="rdp-2017", orders=COARSE).epsilon for ledger in ledgers]
    )
    rows = []
    for metric, values in (
        ("noise from which nobody is recognized", noises),
        ("epsilon from which nobody is recognized", epsilons),
        ("epsilon as of 2020 from which nobody is recognized", older),
    ):
        low, high = _spread(np.log(values))
        middle = float(np.exp(np.log(values).mean()))
        rows.append(
            Row(row, metric, "1", None, middle, float(np.exp(low)), float(np.exp(high)), len(found), None, None)
        )
    middle = float(np.exp(np.log(noises).mean()))
    return [*rows, *_bounds(row, _at_noise(ledgers[0], middle), people=people, each=each)]


def _promised(row: str, ledger: Ledger, published: Mapping[str, float], *, people: int, each: int) -> list[Row]:
    exact = accounting.epsilon(ledger, delta=DELTA).epsilon
    older = accounting.epsilon(ledger, delta=DELTA, accountant="rdp-2017", orders=COARSE).epsilon
    rows = [
        Row(row, metric, "1", published.get(metric), spent, None, None, ledger.records, None, None)
        for metric, spent in {"epsilon": exact, "epsilon as of 2020": older}.items()
    ]
    return [*rows, *_bounds(row, ledger, people=people, each=each)]


def _bounds(row: str, ledger: Ledger, *, people: int, each: int) -> list[Row]:
    """How often anybody could tell, out of so many people, whom one photograph shows, and whom all of a person's do.

    Where every record is in every step, all photographs of a person move a sum by as many times as much as one does,
    so that their bound is that of so much less noise; for sampled records no such bound is given.
    """
    guess = 1 / people
    bounds = {"proven bound on naming one photograph": most_reconstruction(ledger, guess)}
    if all(phase.sampling_rate == 1 for phase in ledger.phases):
        together = replace(
            ledger,
            phases=tuple(replace(phase, noise_multiplier=phase.noise_multiplier / each) for phase in ledger.phases),
        )
        bounds["proven bound on naming a person"] = most_reconstruction(together, guess)
    return [
        Row(row, metric, "%", None, 100 * most, None, None, ledger.records, 100 * guess, None)
        for metric, most in bounds.items()
    ]


def _at_noise(ledger: Ledger, noise: float) -> Ledger:
    return replace(ledger, phases=tuple(replace(phase, noise_multiplier=noise) for phase in ledger.phases))


def _spread(values: np.ndarray) -> tuple[float, float]:
    """Student's interval of the mean; a single value has none and stands for itself."""
    from scipy.special import stdtrit

    mean = float(values.mean())
    if len(values) == 1:
        return mean, mean
    half = float(stdtrit(len(values) - 1, 0.975)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return mean - half, mean + half


def _inputs(artifact: Artifact) -> Tensor:
    return torch.from_numpy(np.asarray(artifact.arrays["inputs"]))


def _by_face_model(row: str, named: Recognition, count: int, control: Recognition | None) -> Row:
    return replace(_recognized(row, named, count, control), metric=f"recognized by a pretrained model, top {count}")


def _recognized(
    row: str,
    named: Recognition,
    count: int,
    control: Recognition | None,
    *,
    published: Mapping[str, float] | None = None,
) -> Row:
    metric = f"recognized, top {count}"
    estimate = named.top(count)
    guessed = named.chance(count)
    nothing = control.top(count) if control else Estimate(guessed, guessed, guessed)
    chance = Finding(metric, *nothing, n=named.people)
    finding = Finding(metric, *estimate, n=named.people, control=chance)
    return percent(finding, row=row, published=(published or {}).get(metric))
