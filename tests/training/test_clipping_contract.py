"""What clipping refuses, what it leaves as it was, how random layers behave, and Opacus as a second opinion."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.models.convert import to_private
from divulge.training.private.clipping import automatic, clipper, flat, require_per_example


def small(*before: nn.Module) -> nn.Module:
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), *before, nn.ReLU(), nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 4)
        )


def batch(examples=6):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(examples, 1, 8, 8, generator=generator), torch.randint(4, (examples,), generator=generator)


class Centered(nn.Module):
    """Subtracts the mean of the batch."""

    def forward(self, x):
        return x - x.mean(dim=0)


class Detached(nn.Module):
    """The same, hidden from autograd."""

    def forward(self, x):
        return x - x.mean(dim=0).detach()


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient / gradient.norm()


class Normalized(nn.Module):
    """The identity, whose backward pass scales by the whole batch's gradient."""

    def forward(self, x):
        return _Scale.apply(x)


class Nothing(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.BatchNorm2d(4), "'1', a BatchNorm2d, mixes the examples.*to_private.*GroupNorm"),
        (nn.SyncBatchNorm(4), "SyncBatchNorm, mixes"),
        (nn.LazyBatchNorm2d(), "LazyBatchNorm2d, mixes"),
        (nn.BatchNorm2d(4).eval(), "BatchNorm2d, mixes"),
        (nn.InstanceNorm2d(4, track_running_stats=True), "InstanceNorm2d, keeps running statistics"),
        (nn.Embedding(4, 4, scale_grad_by_freq=True), "scale_grad_by_freq=False"),
    ],
)
def test_layers_that_mix_examples_are_refused_by_name_and_with_the_replacement(layer, message):
    for refuse in (require_per_example, clipper):
        with pytest.raises(BadInputError, match=message):
            refuse(small(layer))


@pytest.mark.parametrize("layer", [Centered, Detached, Normalized])
@pytest.mark.parametrize("method", ["auto", "ghost", "vmap"])
def test_layers_of_ones_own_that_mix_examples_are_found_by_trying(layer, method):
    model, (inputs, targets) = small(layer()), batch()
    require_per_example(model)
    with pytest.raises(BadInputError, match="changes with the other examples"):
        require_per_example(model, inputs)
    with pytest.raises(BadInputError, match="changes with the other examples"):
        clipper(model, method=method)(inputs, targets, flat(1.0))


@pytest.mark.parametrize(
    "layer", [Nothing(), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.Dropout(0.5), nn.LayerNorm([4, 3, 3])]
)
def test_layers_that_keep_examples_apart_are_accepted(layer):
    model, (inputs, targets) = small(layer), batch()
    require_per_example(model, inputs)
    assert clipper(model)(inputs, targets, flat(1.0)).dropped == 0


def test_a_converted_model_is_accepted():
    model, (inputs, targets) = to_private(small(nn.BatchNorm2d(4)), standardize=True), batch()
    assert clipper(model, method="ghost")(inputs, targets, flat(1.0)).dropped == 0


def mean_loss(answers, targets):
    return functional.cross_entropy(answers, targets)


def token_loss(answers, targets):
    return functional.mse_loss(answers, functional.one_hot(targets, 4).float(), reduction="none")


def centered_loss(answers, targets):
    losses = functional.cross_entropy(answers, targets, reduction="none")
    return losses - losses.mean().detach()


def contrastive_loss(answers, targets):
    return functional.cross_entropy(answers @ answers.T, torch.arange(len(answers)), reduction="none")


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (mean_loss, r"one value an example, shape \(2,\), got \(\)"),
        (token_loss, r"one value an example, shape \(2,\), got \(2, 4\)"),
        (centered_loss, "depends on the other examples"),
        (contrastive_loss, "depends on the other examples"),
    ],
)
def test_losses_that_mix_examples_are_refused(loss, message):
    with pytest.raises(BadInputError, match=message):
        clipper(small(), loss=loss)(*batch(), flat(1.0))


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_bad_bounds_are_refused(value):
    for make in (flat, automatic, lambda value: automatic(1.0, gamma=value)):
        with pytest.raises(BadInputError, match="positive and finite"):
            make(value)


def test_counts_that_differ_and_models_that_learn_nothing_are_refused():
    inputs, targets = batch()
    with pytest.raises(BadInputError, match="as many targets as inputs, got 5 and 6"):
        clipper(small())(inputs, targets[:5], flat(1.0))
    with pytest.raises(BadInputError, match="got none with requires_grad"):
        clipper(small().requires_grad_(False))


def test_a_model_that_no_method_can_do_is_refused_with_the_reason():
    class Branching(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1)) * (2 if x.sum().item() > 0 else 1)

    with pytest.raises(BadInputError, match=r"torch\.func cannot.*item"):
        clipper(Branching(64, 4))(*batch(), flat(1.0))


class BreaksLater(nn.Module):
    """Fails in its backward or forward pass when told to."""

    def __init__(self):
        super().__init__()
        self.fails = ""

    def forward(self, x):
        if self.fails == "forward":
            raise RuntimeError("told to")
        if self.fails == "backward":
            x = x.clone()
            x.register_hook(self._fail)
        return x

    def _fail(self, gradient):
        raise RuntimeError("told to")


def state(model):
    return {
        "hooks": [
            (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for module in model.modules()
        ],
        "modes": [module.training for module in model.modules()],
        "learned": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "values": [value.clone() for value in model.state_dict().values()],
        "enabled": torch.is_grad_enabled(),
    }


def assert_unchanged(before, after):
    for key in before:
        for one, other in zip(before[key], after[key], strict=True) if key != "enabled" else [(True, True)]:
            assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    assert before["enabled"] == after["enabled"]


@pytest.mark.parametrize("method", ["ghost", "vmap"])
@pytest.mark.parametrize("failing", ["", "forward", "backward"])
@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_as_it_was_even_after_an_error(method, failing, training):
    model, (inputs, targets) = small(BreaksLater(), nn.Dropout(0.5)).train(training), batch()
    model[0].bias.requires_grad_(False)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[-1].register_forward_hook(lambda *given: None)
    before, given = state(model), (inputs.clone(), targets.clone())
    clipped = clipper(model, method=method)
    with torch.no_grad():
        clipped(inputs, targets, flat(1.0))
        assert_unchanged(before, state(model) | {"enabled": True})
    model[1].fails = failing
    if failing and (method, failing) != ("vmap", "backward"):
        with pytest.raises(RuntimeError, match="told to"):
            clipped(inputs, targets, flat(1.0))
    assert_unchanged(before, state(model))
    assert torch.equal(inputs, given[0])
    assert torch.equal(targets, given[1])


@pytest.mark.parametrize("method", ["ghost", "vmap"])
def test_dropout_draws_anew_for_each_example_and_copy_from_the_global_state(method):
    with seeded(0):
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 4))
    inputs, targets = torch.ones(8, 1, 8, 8), torch.zeros(8, dtype=torch.long)
    clipped = clipper(model, method=method)
    clipped(inputs, targets, flat(1.0))
    norms = []
    for seed in (0, 0, 1):
        with seeded(seed):
            norms.append(clipped(inputs, targets, flat(1.0)).norms)
    assert torch.equal(norms[0], norms[1])
    assert not torch.allclose(norms[0], norms[2], rtol=1e-3)
    assert len(norms[0].unique()) == 8
    copies = clipped(inputs[:1].expand(1, 8, 1, 8, 8), targets[:1], flat(1.0), augmented=True)
    assert float(copies.norms) < float(norms[0].mean())  # independent masks average out
    model.eval()
    assert len(clipped(inputs, targets, flat(1.0)).norms.unique()) == 1


def test_dropout_under_ghost_norms_is_that_of_an_ordinary_pass():
    model, (inputs, targets) = small(nn.Dropout(0.5)), batch()
    inputs = torch.empty_like(inputs, memory_format=torch.channels_last).copy_(inputs)
    clipped = clipper(model, method="ghost")
    clipped(inputs, targets, flat(1.0))
    with seeded(3):
        found = clipped(inputs, targets, flat(1e6))
    with seeded(3):
        functional.cross_entropy(model(inputs), targets, reduction="sum").backward()
    for ours, parameter in zip(found.sums, model.parameters(), strict=True):
        assert torch.allclose(ours, parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["ghost", "vmap"])
def test_fast_precision_clips_what_it_computes_exactly(method):
    model, (inputs, targets) = small(nn.GroupNorm(2, 4)), batch(16)
    exact, fast = (
        clipper(model, method=method, precision=precision)(inputs, targets, flat(0.2))
        for precision in ("float32", "fast")
    )
    assert torch.allclose(fast.norms, exact.norms, rtol=0.05)
    for ours, theirs in zip(fast.sums, exact.sums, strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - theirs).norm()) < 0.05 * float(theirs.norm())
    alone = clipper(model, method=method, precision="fast")
    for row in range(16):
        one = alone(inputs[[row]], targets[[row]], flat(0.2))
        length = torch.stack([total.norm() for total in one.sums]).norm()
        assert float(length) <= 0.2 * (1 + 1e-5)


def sums_of_opacus(model, inputs, targets, mode):
    """What Opacus adds up within one step without noise."""
    from opacus.grad_sample import GradSampleModule
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer
    from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    inner, loss = torch.optim.SGD(model.parameters(), lr=0.0), nn.CrossEntropyLoss()
    settings = {"noise_multiplier": 0.0, "max_grad_norm": 1.0, "expected_batch_size": len(inputs)}
    if mode == "ghost":
        wrapped = GradSampleModuleFastGradientClipping(model, max_grad_norm=1.0, use_ghost_clipping=True)
        optimizer = DPOptimizerFastGradientClipping(inner, **settings)
        loss = DPLossFastGradientClipping(wrapped, optimizer, loss)
    else:
        wrapped = GradSampleModule(model, force_functorch=mode == "functorch")
        optimizer = DPOptimizer(inner, **settings)
    loss(wrapped(inputs), targets).backward()
    optimizer.step()
    return [parameter.grad * len(inputs) for parameter in model.parameters()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["hooks", "functorch", "ghost"])
def test_the_sums_are_those_of_opacus(mode):
    model, (inputs, targets) = small(nn.GroupNorm(2, 4)), batch(9)
    ours = clipper(model)(inputs, targets, flat(1.0))
    assert (ours.norms > 1.0).any()
    for mine, other in zip(ours.sums, sums_of_opacus(copy.deepcopy(model), inputs, targets, mode), strict=True):
        assert float((mine - other).norm()) <= 1e-5 * float(other.norm())
