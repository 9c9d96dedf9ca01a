"""Mutation tests: the real private training with one mistake put in must be caught, without one it must not."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from divulge.auditing.canaries.audit import audit_training
from divulge.auditing.canaries.departures import uneven_noise, uneven_turns
from divulge.auditing.canaries.one_hot import UNEVEN_NOISE, UNEVEN_TURNS
from divulge.data import Dataset
from divulge.models.mlp import MLP
from divulge.training import Recipe
from divulge.training.private import Privacy, gradients, loop
from divulge.training.private.clipping import Clipped
from divulge.training.private.sampling import shuffled

RATE, STEPS, CLIP = 0.1, 40, 0.5


def audited(seed, *, rate=RATE, noise=2.0, steps=STEPS, canaries=500):
    generator = torch.Generator().manual_seed(seed)
    data = Dataset(torch.rand(200, 6, generator=generator), torch.randint(3, (200,), generator=generator))
    recipe = Recipe(epochs=1, batch_size=round(rate * 200), optimizer="sgd", lr=0.05)
    privacy = Privacy(noise_multiplier=noise, steps=steps, clip=CLIP, noise_seed=seed)
    return audit_training(privacy, data, MLP((8,)), recipe, canaries=canaries, seed=seed)


def no_noise(monkeypatch):
    monkeypatch.setattr(loop, "add_noise", lambda sums, scale, generator: None)


def scaled_noise(factor):
    def mutate(monkeypatch):
        real = loop.add_noise
        monkeypatch.setattr(loop, "add_noise", lambda sums, scale, generator: real(sums, factor * scale, generator))

    return mutate


def noise_of_realized_size(monkeypatch):
    """The noise shrinks with the batch that was drawn over all records, instead of staying as it is."""
    real_add, real_drawn, sizes = loop.add_noise, loop.drawn, []

    def drawn(plan, size, records, step, **more):
        rows = real_drawn(plan, size, records, step, **more)
        sizes.append(len(rows) / records)
        return rows

    monkeypatch.setattr(loop, "drawn", drawn)
    monkeypatch.setattr(loop, "add_noise", lambda sums, scale, generator: real_add(sums, sizes[-1] * scale, generator))


def clipped_by_layer(monkeypatch):
    """Each layer's gradient is clipped on its own, to the whole norm."""

    def clipper(model, **settings):
        def clipped(inputs, targets, rule, *, augmented=False):
            values = {name: p.detach() for name, p in model.named_parameters()}

            def loss(values, record, target):
                return functional.cross_entropy(functional_call(model, values, (record[None],)), target[None])

            each = vmap(grad(loss), in_dims=(None, 0, 0))(values, inputs, targets)
            norms = [gradient.flatten(1).norm(dim=1) for gradient in each.values()]
            sums = [torch.einsum("n,n...->...", rule(n), g) for n, g in zip(norms, each.values(), strict=True)]
            return Clipped(sums, torch.stack(norms).norm(dim=0), torch.zeros(len(inputs)), 0)

        return clipped

    monkeypatch.setattr(gradients, "clipper", clipper)


def not_clipped(monkeypatch):
    real = gradients.clipper

    def clipper(model, **settings):
        clip = real(model, **settings)
        return lambda inputs, targets, rule, **more: clip(inputs, targets, torch.ones_like, **more)

    monkeypatch.setattr(gradients, "clipper", clipper)


def used_twice(monkeypatch):
    """A record that is drawn counts twice in its batch."""
    real = loop.drawn
    monkeypatch.setattr(loop, "drawn", lambda *args, **more: np.repeat(real(*args, **more), 2))


def repeated_batch(monkeypatch):
    """The first batch is every step's."""
    real = loop.drawn

    def drawn(plan, size, records, step, *, generator, seed):
        return real(plan, size, records, 0, generator=np.random.default_rng(0), seed=seed)

    monkeypatch.setattr(loop, "drawn", drawn)


def divided_by_realized_size(monkeypatch):
    """Sum and noise are divided by the size of the batch that was drawn, instead of the expected one."""
    real_add, real_drawn, sizes = loop.add_noise, loop.drawn, []

    def drawn(plan, size, records, step, **more):
        rows = real_drawn(plan, size, records, step, **more)
        sizes.append(size / max(1, len(rows)))
        return rows

    def add_noise(sums, scale, generator):
        real_add(sums, scale, generator)
        torch._foreach_mul_(sums, sizes[-1])

    monkeypatch.setattr(loop, "drawn", drawn)
    monkeypatch.setattr(loop, "add_noise", add_noise)


def shuffled_as_poisson(monkeypatch):
    """Batches of shuffled passes, in a ledger of Poisson batches."""
    monkeypatch.setattr(
        loop, "drawn", lambda plan, size, records, step, *, generator, seed: shuffled(records, size, step, seed=seed)
    )


MUTANTS = {
    "no noise": no_noise,
    "noise divided by the batch size twice": scaled_noise(1 / 45),
    "half of the noise": scaled_noise(CLIP),
    "noise scaled by the realized size": noise_of_realized_size,
    "clipping by layer": clipped_by_layer,
    "no clipping": not_clipped,
    "a record twice in a step": used_twice,
    "one batch for every step": repeated_batch,
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_is_caught(name, monkeypatch):
    MUTANTS[name](monkeypatch)
    # Of a batch that is always the same, only a tenth of the canaries give proof, and more so over more steps.
    audit = audited(0, steps=160, canaries=1000) if name == "one batch for every step" else audited(0)
    assert audit.caught, str(audit)
    assert "does not keep its promise" in str(audit)


@pytest.mark.parametrize("name", ["no noise", "half of the noise", "clipping by layer"])
def test_a_mistake_is_caught_where_every_record_is_in_every_step(name, monkeypatch):
    MUTANTS[name](monkeypatch)
    assert audited(0, rate=1.0, noise=7.0).caught


@pytest.mark.parametrize(
    ("mutate", "noise", "sign"),
    [(divided_by_realized_size, 2.0, UNEVEN_NOISE), (shuffled_as_poisson, 0.5, UNEVEN_TURNS)],
)
def test_a_training_that_differs_from_its_ledger_is_told_apart(mutate, noise, sign, monkeypatch):
    mutate(monkeypatch)
    audit = audited(0, noise=noise)
    assert audit.departed == [sign], audit.departures
    assert sign in str(audit)


@pytest.mark.parametrize("seed", range(4))
def test_the_training_as_it_is_is_not_caught(seed):
    audit = audited(seed)
    assert not audit.caught, str(audit)
    assert len(audit.departures) == 2
    assert not audit.departed, audit.departures


def test_false_alarms_are_as_rare_as_they_are_said_to_be():
    rng = np.random.default_rng(0)
    chances = []
    for seed in range(100):
        noise = rng.normal(scale=3.0, size=(20, 60))
        batches = rng.random((20, 60)) < 0.2
        chances.append([uneven_noise(noise, seed=seed), uneven_turns(batches + 0.1 * noise, each=5, seed=seed)])
    for column in np.transpose(chances):
        assert stats.kstest(column, "uniform", alternative="greater").pvalue > 1e-4
