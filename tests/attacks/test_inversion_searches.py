"""Searches of model inversion: processing, code space, priors, coarse answers, and who knows of a defense."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from divulge.attacks.inversion import BlackBoxInversion, LatentInversion, MIFace
from divulge.attacks.inversion.black_box import LabelsAloneError
from divulge.attacks.inversion.prior import code_of
from divulge.attacks.inversion.process import denoise_and_sharpen, non_local_means, sharpen
from divulge.attacks.inversion.selection import robustness
from divulge.attacks.inversion.variational import Variational
from divulge.attacks.knowledge import Knowledge
from divulge.data import Dataset, load, split
from divulge.defenses.coarse import LabelOnly, Rounding, TopK
from divulge.defenses.label_smoothing import LabelSmoothing
from divulge.errors import BadInputError
from divulge.metrics.recognition import recognize
from divulge.models.denoising import StackedDenoising
from divulge.models.mlp import Softmax
from divulge.releases import Posteriors, Weights
from divulge.training import Recipe, fit, logits
from divulge.training.pretrain import pretrain

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def parts() -> dict[str, Dataset]:
    return split(load("digits"), {"train": 600, "public": 400, "held_out": 500}, seed=0, stratify=True).parts


@pytest.fixture(scope="module")
def model(parts) -> nn.Module:
    model = Softmax().build(SHAPE, 10, seed=0)
    fit(model, parts["train"], Recipe(epochs=20, batch_size=64, lr=1e-2), seed=0)
    return model


@pytest.fixture(scope="module")
def stacked(parts) -> nn.Module:
    model = StackedDenoising(hidden=(60, 30), pretraining=20, lr=1e-2).build(SHAPE, 10, seed=0)
    fit(model, parts["train"], Recipe(epochs=20, batch_size=64, lr=1e-2, precision="float32"), seed=0)
    return model


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def named(drawings: Tensor, parts: dict[str, Dataset]) -> float:
    held_out = parts["held_out"]
    return recognize(drawings, torch.arange(10), held_out.inputs, held_out.targets).top(1).value


def answering(model: nn.Module, defense=None) -> Posteriors:
    def answer(records: Tensor) -> np.ndarray:
        told = torch.from_numpy(logits(model, records)).double().softmax(dim=1).numpy()
        return defense.respond(told) if defense else told

    return Posteriors(answer, classes=10)


class TestProcessing:
    def test_non_local_means_pixel_by_pixel(self):
        image = torch.rand(1, 1, 5, 6, generator=generator())
        wide = torch.nn.functional.pad(image, (2,) * 4, mode="replicate")[0, 0]
        shifts = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]

        def apart(row: int, column: int, down: int, right: int) -> float:
            """Squared differences around a pixel, those outside the image taken at its border."""
            total = 0.0
            for a, b in shifts:
                y, x = min(max(row + a, 0), 4), min(max(column + b, 0), 5)
                total += float(wide[y + 2, x + 2] - wide[y + 2 + down, x + 2 + right]) ** 2
            return total / 9

        expected = torch.zeros(5, 6)
        for row in range(5):
            for column in range(6):
                weights = {s: np.exp(-apart(row, column, *s) / 0.3**2) for s in shifts}
                seen = sum(w * float(wide[row + 2 + a, column + 2 + b]) for (a, b), w in weights.items())
                expected[row, column] = seen / sum(weights.values())
        found = non_local_means(image, patch=3, reach=1, strength=0.3)
        assert torch.allclose(found[0, 0], expected, atol=1e-5)

    def test_noise_goes_and_edges_stay(self):
        clean = torch.zeros(1, 1, 24, 24)
        clean[..., 12:] = 1
        noisy = clean + 0.05 * torch.randn(clean.shape, generator=generator())
        found = non_local_means(noisy)
        assert (found - clean).square().mean() < 0.5 * (noisy - clean).square().mean()
        assert found[..., 12].mean() - found[..., 11].mean() > 0.95
        sharp = denoise_and_sharpen(noisy)
        assert noisy.min() <= sharp.min()
        assert sharp.max() <= noisy.max()

    def test_sharpening_leaves_what_is_flat(self):
        flat = torch.full((1, 1, 6, 6), 0.4)
        assert torch.allclose(sharpen(flat), flat)
        step = flat.clone()
        step[..., 3:] = 0.6
        assert sharpen(step)[0, 0, 3, 3] > 0.6

    @pytest.mark.parametrize("process", ["denoise-sharpen", "code"])
    def test_processed_searches_draw_what_is_named(self, stacked, parts, process):
        found = MIFace(process=process, steps=40).run(Weights(stacked, SHAPE, 10), generator=generator())
        assert named(found.inputs, parts) >= 0.6
        assert found.inputs.min() >= 0
        assert found.inputs.max() <= 1

    def test_a_code_gives_its_record_back(self, parts):
        fresh = StackedDenoising(hidden=(60, 30), pretraining=20, lr=1e-2).build(SHAPE, 10, seed=0)
        pretrain(fresh, parts["train"].inputs, seed=0)
        code = code_of(fresh, SHAPE)
        records = parts["held_out"].inputs[:100]
        back = code.records(code.points(records))
        mean = parts["train"].inputs.mean(dim=0)
        assert (back - records).square().mean() < 0.5 * (mean - records).square().mean()


class TestPriors:
    def test_a_variational_prior_draws_records_of_its_kind(self, parts):
        public = parts["public"]
        prior = Variational.of(public, dimensions=8, epochs=40, generator=generator())
        drawn = prior.records(torch.randn(100, 8, generator=generator())).flatten(1)
        known = public.inputs.flatten(1)
        nearest = torch.cdist(drawn, known).amin(dim=1).mean()
        blank = torch.cdist(torch.rand(100, 64, generator=generator()), known).amin(dim=1).mean()
        assert nearest < 0.6 * blank
        assert drawn.std(dim=0).mean() > 0.3 * known.std(dim=0).mean()

    @pytest.mark.parametrize("settings", [{"prior": "pca", "students": 1}, {"prior": "vae", "students": 0}], ids=str)
    def test_latent_searches_draw_what_is_named(self, model, parts, settings):
        model.zero_grad()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        attack = LatentInversion(dimensions=10, steps=60, starts=2, epochs=40, **settings)
        found = attack.run(Weights(model, SHAPE, 10), knowledge=Knowledge(data=parts["public"]), generator=generator())
        assert named(found.inputs, parts) >= 0.7
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())

    def test_an_untrained_model_shows_nobody(self, parts):
        blank = Softmax().build(SHAPE, 10, seed=0)
        attack = LatentInversion(prior="pca", dimensions=10, students=0, steps=30)
        found = attack.run(Weights(blank, SHAPE, 10), knowledge=Knowledge(data=parts["public"]), generator=generator())
        assert named(found.inputs, parts) <= 0.4


class TestKnowing:
    def test_who_knows_of_a_defense_in_training_tries_more(self, model, parts):
        release = Weights(model, SHAPE, 10)
        blind = MIFace(steps=20).run(release, knowledge=Knowledge(data=parts["public"]), generator=generator())
        knows = Knowledge(data=parts["public"], defense=LabelSmoothing())
        adaptive = MIFace(steps=20).run(release, knowledge=knows, generator=generator())
        assert "searches" not in blind.facts
        assert adaptive.facts["searches"] == 4
        held = [robustness(model, one.inputs, one.targets, generator=generator()) for one in (blind, adaptive)]
        assert (held[1] >= held[0] - 1e-6).all()
        answers = Knowledge(data=parts["public"], defense=Rounding())
        assert torch.equal(MIFace(steps=20).run(release, knowledge=answers, generator=generator()).inputs, blind.inputs)

    def test_robust_drawings_are_told_from_brittle_ones(self):
        """Of two images with as large a posterior, one pixel carries the first, and the whole the second."""
        linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
        with torch.no_grad():
            linear[1].weight.zero_()
            linear[1].weight[0] = 0.2
            linear[1].weight[0, 0] = 12.8
        images = torch.zeros(2, *SHAPE)
        images[0, 0, 0, 0] = 1
        images[1] = 12.8 / (0.2 * 63 + 12.8)
        brittle, robust = robustness(linear, images, torch.zeros(2, dtype=torch.long), generator=generator())
        assert robust > brittle + 0.02
        records = images.flatten(1)
        noisy = robustness(nn.Linear(64, 2), records, torch.zeros(2, dtype=torch.long), generator=generator())
        assert noisy.shape == (2,)

    @pytest.mark.parametrize("defense", [Rounding(digits=1), TopK(k=1), LabelOnly()], ids=lambda one: one.name)
    def test_coarse_answers_are_enough_for_who_knows_of_them(self, model, parts, defense):
        release = answering(model, defense)
        attack = BlackBoxInversion(queries=1500, dimensions=15)
        knows = Knowledge(data=parts["public"], defense=defense)
        found = attack.run(release, shape=SHAPE, knowledge=knows, generator=generator())
        assert named(found.inputs, parts) >= 0.6
        assert found.queries <= attack.queries
        assert release.queries <= 10 * attack.queries

    @pytest.mark.parametrize("queries", [41, 42, 60, 500])
    def test_knowing_costs_no_more_queries(self, model, parts, queries):
        release = answering(model, Rounding())
        release.budget = 10 * queries
        attack = BlackBoxInversion(queries=queries, dimensions=5)
        knows = Knowledge(data=parts["public"], defense=Rounding())
        found = attack.run(release, shape=SHAPE, knowledge=knows, generator=generator())
        assert found.queries <= queries


def test_differences_give_the_slope_of_a_linear_model():
    linear = nn.Linear(12, 2)
    release = Posteriors(lambda x: linear(x).detach(), classes=2, logits=True)
    attack = BlackBoxInversion(estimate="differences", queries=50, dimensions=None, box=None, lr=1.0, spread=0.01)
    found = attack.run(release, shape=(12,), classes=[0], generator=generator())
    apart = (linear.weight[0] - linear.weight[1]).detach()
    assert found.queries == 50
    assert float(torch.cosine_similarity(found.inputs[0], apart, dim=0)) > 0.999


def test_labels_where_posteriors_are_needed(model, parts):
    attack = BlackBoxInversion(queries=400, dimensions=10)
    with pytest.raises(LabelsAloneError, match="every answer is all of one class"):
        attack.run(
            answering(model, LabelOnly()),
            shape=SHAPE,
            knowledge=Knowledge(data=parts["public"]),
            generator=generator(),
        )


NOTHING = Knowledge()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda m, p: MIFace(process="code", dimensions=3), "got both"),
        (lambda m, p: MIFace(process="code").run(Weights(m, SHAPE, 10), generator=generator()), "begins with an auto"),
        (lambda m, p: LatentInversion(steps=0), "steps"),
        (lambda m, p: LatentInversion(near=float("nan")), "near"),
        (lambda m, p: LatentInversion().run(Weights(m, SHAPE, 10), generator=generator()), "got none"),
        (
            lambda m, p: LatentInversion().run(
                Weights(m, SHAPE, 10), classes=[10], knowledge=Knowledge(data=p["public"]), generator=generator()
            ),
            "classes from 0 to 9",
        ),
        (
            lambda m, p: LatentInversion().run(
                Weights(m, SHAPE, 9), knowledge=Knowledge(data=p["public"]), generator=generator()
            ),
            "logits of 9 classes",
        ),
        (
            lambda m, p: BlackBoxInversion(estimate="differences", queries=100, dimensions=None).run(
                answering(m), shape=SHAPE, generator=generator()
            ),
            "one estimate takes 129 queries",
        ),
        (
            lambda m, p: BlackBoxInversion().run(
                Posteriors(lambda x: np.full((len(x), 10), np.nan), classes=10),
                shape=SHAPE,
                knowledge=Knowledge(data=p["public"]),
                generator=generator(),
            ),
            "NaN",
        ),
        (
            lambda m, p: Variational.of(
                Dataset(p["public"].inputs * 2, p["public"].targets), dimensions=3, epochs=1, generator=generator()
            ),
            "in \\[0, 1\\]",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(model, parts, make, told):
    with pytest.raises(BadInputError, match=told):
        make(model, parts)
