"""Mutation tests: the real private training with one mistake put in must be caught, without one it must not."""

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from divulge.auditing.canaries.audit import audit_training
from divulge.data import Dataset
from divulge.models.mlp import MLP
from divulge.training import Recipe
from divulge.training.private import Privacy, gradients, loop
from divulge.training.private.clipping import Clipped

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


@pytest.mark.parametrize("seed", range(4))
def test_the_training_as_it_is_is_not_caught(seed):
    audit = audited(seed)
    assert not audit.caught, str(audit)
