"""Clipped sums against the definition: one ordinary backward pass for each example."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.models.standardized import ScaledConv2d, StandardizedConv2d
from divulge.training.private.clipping import Clipped, automatic, clipper, flat

CLASSES = 4


def by_definition(model, inputs, targets, rule, loss=None):
    """Norms and the clipped sum of examples `(B, K, *shape)`, one after another."""
    loss = loss or (lambda answers, labels: functional.cross_entropy(answers, labels, reduction="none"))
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    sums, norms = [torch.zeros_like(parameter) for parameter in learned], []
    for copies, target in zip(inputs, targets, strict=True):
        mean = loss(model(copies), target.expand(len(copies), *target.shape)).mean()
        gradient = torch.autograd.grad(mean, learned, materialize_grads=True)
        norms.append(torch.stack([each.norm() for each in gradient]).norm())
        for total, each in zip(sums, gradient, strict=True):
            total += rule(norms[-1][None])[0] * each
    return sums, torch.stack(norms) if norms else torch.zeros(0)


def assert_same(found: Clipped, sums, norms, tolerance=1e-5):
    scale = torch.stack([each.norm() for each in sums]).norm()
    assert found.norms.shape == found.losses.shape == norms.shape
    assert torch.allclose(found.norms, norms, rtol=tolerance, atol=1e-7)
    assert len(found.sums) == len(sums)
    for ours, theirs in zip(found.sums, sums, strict=True):
        assert ours.dtype == torch.float32
        assert ours.shape == theirs.shape
        assert float((ours - theirs).norm()) <= tolerance * float(scale)


def batch(shape, examples, copies, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(examples, copies, *shape, generator=generator)
    return inputs, torch.randint(CLASSES, (examples,), generator=generator)


def headed(layer, shape):
    """The layer, an activation and a head that gives logits."""
    with torch.no_grad():
        width = layer(torch.zeros(1, *shape)).numel()
    return nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.Linear(width, CLASSES))


def check(model, shape, examples, copies, method, seed=0, rule=None):
    inputs, targets = batch(shape, examples, copies, seed)
    rule = rule or flat(0.5)
    found = clipper(model, method=method)(inputs, targets, rule, augmented=True)
    assert_same(found, *by_definition(model, inputs, targets, rule))
    assert found.dropped == 0


convolutions = st.fixed_dictionaries(
    {
        "groups": st.sampled_from([1, 1, 2, 3]),
        "wide": st.sampled_from([1, 2, 5]),
        "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
        "padding": st.sampled_from(["same", "valid", (0, 0), (1, 2), (2, 0)]),
        "padding_mode": st.sampled_from(["zeros", "zeros", "reflect", "circular"]),
        "bias": st.booleans(),
        "depth": st.sampled_from([1, 3]),
    }
)
sizes = {"examples": st.integers(1, 4), "copies": st.integers(1, 3), "seed": st.integers(0, 99)}


@settings(max_examples=40, deadline=None)
@given(drawn=convolutions, kind=st.sampled_from([nn.Conv2d, nn.Conv2d, StandardizedConv2d, ScaledConv2d]), **sizes)
def test_convolutions_of_every_geometry(drawn, kind, examples, copies, seed):
    if drawn["padding"] == "same":
        drawn = drawn | {"stride": (1, 1)}
    if kind is ScaledConv2d:
        drawn = drawn | {"bias": True}
    groups = drawn["groups"]
    given_to = {key: drawn[key] for key in ("stride", "dilation", "padding", "padding_mode")}
    if kind is not ScaledConv2d:
        given_to["bias"] = drawn["bias"]
    assume(kind is nn.Conv2d or drawn["kernel"] != (1, 1) or drawn["depth"] > 1)  # a single weight has no deviation
    shape = (groups * drawn["depth"], 9, 8)
    with seeded(seed):
        layer = kind(shape[0], groups * drawn["wide"], drawn["kernel"], groups=groups, **given_to)
        check(headed(layer, shape), shape, examples, copies, "ghost", seed)


@settings(max_examples=15, deadline=None)
@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    **sizes,
)
def test_convolutions_in_one_dimension(kernel, stride, dilation, groups, examples, copies, seed):
    with seeded(seed):
        layer = nn.Conv1d(2, 6, kernel, stride=stride, dilation=dilation, groups=groups, padding=2)
        check(headed(layer, (2, 11)), (2, 11), examples, copies, "ghost", seed)


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d])
def test_wide_convolutions_of_few_positions(kind):
    shape = (40, 3) if kind is nn.Conv1d else (40, 2, 2)
    layer = kind(40, 60, 2, padding=1, groups=2)
    check(headed(layer, shape), shape, 5, 2, "ghost")


@settings(max_examples=25, deadline=None)
@given(
    width=st.sampled_from([1, 3, 40]),
    out=st.sampled_from([1, 5, 30]),
    between=st.sampled_from([(), (1,), (6,), (2, 3)]),
    bias=st.booleans(),
    **sizes,
)
def test_linear_layers_on_vectors_and_sequences(width, out, between, bias, examples, copies, seed):
    shape = (*between, width)
    with seeded(seed):
        check(headed(nn.Linear(width, out, bias=bias), shape), shape, examples, copies, "ghost", seed)


NORMS = {
    "group norm of images": (lambda: nn.GroupNorm(3, 6), (6, 5, 4)),
    "group norm of vectors": (lambda: nn.GroupNorm(2, 6), (6,)),
    "layer norm of images": (lambda: nn.LayerNorm([6, 5, 4]), (6, 5, 4)),
    "layer norm of sequences": (lambda: nn.LayerNorm(4), (6, 4)),
    "layer norm without bias": (lambda: nn.LayerNorm(4, bias=False), (2, 4)),
}


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("copies", [1, 3])
def test_norm_layers(kind, copies):
    build, shape = NORMS[kind]
    layer = build()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn(parameter.shape))
    check(nn.Sequential(nn.Identity(), headed(layer, shape)), shape, 5, copies, "ghost")


@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("copies", [1, 2])
def test_embeddings(padding, copies):
    model = nn.Sequential(nn.Embedding(5, 3, padding_idx=padding), nn.Tanh(), nn.Flatten(), nn.Linear(18, CLASSES))
    inputs = torch.randint(5, (4, copies, 6), generator=torch.Generator().manual_seed(0))
    targets = torch.arange(4)
    found = clipper(model, method="ghost")(inputs, targets, flat(0.5), augmented=True)
    assert_same(found, *by_definition(model, inputs, targets, flat(0.5)))


def small_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        ScaledConv2d(4, 6, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, CLASSES),
    )


def softmax():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))


class Residual(nn.Module):
    """A block whose input, output and gradient are shared between two paths."""

    def __init__(self):
        super().__init__()
        self.into, self.left, self.out = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(144, CLASSES)

    def forward(self, x):
        x = self.into(x)
        return self.out((x + self.left(x.relu())).flatten(1))


class Tied(nn.Module):
    """A weight that two layers share."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, CLASSES)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(self.second(self.first(x.flatten(1)).tanh()).tanh())


class Twice(nn.Module):
    """A layer that is called twice."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(64, 64), nn.Linear(64, CLASSES)

    def forward(self, x):
        return self.head(self.body(self.body(x.flatten(1)).tanh()).tanh())


class Aside(nn.Module):
    """A layer whose weight is also used outside of it, which no hook sees."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(64, 64), nn.Linear(64, CLASSES)

    def forward(self, x):
        return self.head((self.body(x.flatten(1)).tanh() @ self.body.weight).tanh())


class Free(nn.Module):
    """A parameter that belongs to no layer."""

    def __init__(self):
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.full((64,), 0.5)), nn.Linear(64, CLASSES)

    def forward(self, x):
        return self.head(x.flatten(1) * self.scale)


class Transposed(nn.Module):
    """A layer whose input has the examples on its second axis."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 8), nn.Linear(64, CLASSES)

    def forward(self, x):
        return self.head(self.body(x.flatten(0, 1).transpose(0, 1)).transpose(0, 1).tanh().flatten(1))


class Blocked(nn.Module):
    """A layer that no gradient reaches."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(64, 64), nn.Linear(64, CLASSES)

    def forward(self, x):
        with torch.no_grad():
            features = self.body(x.flatten(1))
        return self.head(features.tanh())


class Unused(nn.Module):
    """A layer that no answer depends on."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(64, 3), nn.Linear(64, CLASSES)

    def forward(self, x):
        return self.head(x.flatten(1))


MODELS = {
    "linear": (softmax, ["auto", "linear", "ghost", "vmap"]),
    "cnn": (small_cnn, ["auto", "ghost", "vmap"]),
    "residual": (Residual, ["auto", "ghost", "vmap"]),
    "blocked": (Blocked, ["auto", "ghost", "vmap"]),
    "unused": (Unused, ["auto", "ghost", "vmap"]),
    "tied": (Tied, ["auto", "vmap"]),
    "twice": (Twice, ["auto", "vmap"]),
    "aside": (Aside, ["auto", "vmap"]),
    "free": (Free, ["auto", "vmap"]),
    "transposed": (Transposed, ["auto", "vmap"]),
}


@pytest.mark.parametrize(("kind", "method"), [(kind, way) for kind, (_, ways) in MODELS.items() for way in ways])
@pytest.mark.parametrize("rule", [flat(0.5), automatic(0.5)])
def test_every_method_agrees_with_the_definition(kind, method, rule):
    with seeded(1):
        model = MODELS[kind][0]()
        for examples, copies in ((5, 1), (1, 1), (3, 4)):
            check(model, (1, 8, 8), examples, copies, method, rule=rule)


@pytest.mark.parametrize("kind", [kind for kind, (_, ways) in MODELS.items() if "ghost" not in ways])
def test_ghost_norms_are_refused_where_they_would_be_wrong(kind):
    inputs, targets = batch((1, 8, 8), 3, 1)
    with pytest.raises(BadInputError, match="method 'ghost' is not exact here"):
        clipper(MODELS[kind][0](), method="ghost")(inputs[:, 0], targets, flat(1.0))


def test_weights_of_zero_do_not_hide_what_ghost_norms_cannot_do():
    model, (inputs, targets) = Aside(), batch((1, 8, 8), 4, 1)
    nn.init.zeros_(model.head.weight)
    clipped = clipper(model)
    clipped(inputs[:, 0], targets, flat(0.5))
    assert not model.head.weight.any()
    nn.init.normal_(model.head.weight)
    assert_same(clipped(inputs[:, 0], targets, flat(0.5)), *by_definition(model, inputs, targets, flat(0.5)))


def test_the_closed_form_is_refused_for_other_models_and_losses():
    inputs, targets = batch((1, 8, 8), 3, 1)
    for model, loss in ((small_cnn(), None), (softmax(), lambda answers, labels: answers.square().sum(dim=1))):
        with pytest.raises(BadInputError, match="method 'linear' is not exact here"):
            clipper(model, method="linear", **({"loss": loss} if loss else {}))(inputs[:, 0], targets, flat(1.0))


@pytest.mark.parametrize("method", ["linear", "ghost", "vmap"])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_frozen_parameters_are_left_out(method, name):
    model = softmax()
    getattr(model[1], name).requires_grad_(False)
    check(model, (1, 8, 8), 5, 2, method)
    assert not getattr(model[1], name).requires_grad


def test_freezing_between_calls_is_noticed():
    model = small_cnn()
    clipped, (inputs, targets) = clipper(model), batch((1, 8, 8), 4, 1)
    for frozen in (None, model[0].weight, model[4].gain):
        if frozen is not None:
            frozen.requires_grad_(False)
        assert_same(clipped(inputs[:, 0], targets, flat(0.5)), *by_definition(model, inputs, targets, flat(0.5)))


@pytest.mark.parametrize("chunk", [1, 2, 5, None])
@pytest.mark.parametrize("method", ["ghost", "vmap"])
def test_chunks_and_microbatches_add_up(chunk, method):
    model, (inputs, targets) = small_cnn(), batch((1, 8, 8), 7, 1)
    clipped = clipper(model, method=method, chunk=chunk)
    expected = by_definition(model, inputs, targets, flat(0.5))
    assert_same(clipped(inputs[:, 0], targets, flat(0.5)), *expected)
    parts = [clipped(inputs[rows, 0], targets[rows], flat(0.5)) for rows in (slice(0, 3), slice(3, 3), slice(3, 7))]
    assert_same(parts[0] + parts[1] + parts[2], *expected)


@pytest.mark.parametrize("method", ["linear", "ghost", "vmap"])
def test_no_examples_give_zero_sums(method):
    model = softmax()
    found = clipper(model, method=method)(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.long), flat(1.0))
    assert [total.shape for total in found.sums] == [parameter.shape for parameter in model.parameters()]
    assert not any(total.any() for total in found.sums)
    assert (len(found.norms), len(found.losses), found.dropped) == (0, 0, 0)


@pytest.mark.parametrize("method", ["linear", "ghost", "vmap"])
def test_equal_copies_count_as_one(method):
    model, (inputs, targets) = softmax(), batch((1, 8, 8), 5, 1)
    alone = clipper(model, method=method)(inputs[:, 0], targets, flat(0.5))
    repeated = clipper(model, method=method)(inputs.expand(-1, 6, -1, -1, -1), targets, flat(0.5), augmented=True)
    assert_same(repeated, alone.sums, alone.norms)
    assert torch.allclose(repeated.losses, alone.losses, rtol=1e-5)


@pytest.mark.parametrize("method", ["linear", "ghost", "vmap"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_are_dropped_and_counted(method, value):
    model, (inputs, targets) = softmax(), batch((1, 8, 8), 6, 1)
    kept = torch.tensor([1, 2, 4])
    expected_sums, expected_norms = by_definition(model, inputs[kept], targets[kept], flat(0.5))
    inputs[[0, 3, 5], 0, 0, 0, 0] = value
    found = clipper(model, method=method)(inputs[:, 0], targets, flat(0.5))
    assert found.dropped == 3
    assert not found.norms[[0, 3, 5]].any()
    assert_same(Clipped(found.sums, found.norms[kept], found.losses[kept], 0), expected_sums, expected_norms)


def test_a_batch_of_which_nothing_is_finite_gives_zero():
    model = small_cnn()
    found = clipper(model)(torch.full((3, 1, 8, 8), float("nan")), torch.arange(3), flat(1.0))
    assert found.dropped == 3
    assert not any(total.any() for total in found.sums)


@pytest.mark.parametrize("method", ["ghost", "vmap"])
def test_a_loss_of_ones_own(method):
    def squared(answers: Tensor, targets: Tensor) -> Tensor:
        return (answers - targets).square().mean(dim=1)

    model, (inputs, _) = small_cnn(), batch((1, 8, 8), 4, 2)
    targets = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(0))
    found = clipper(model, method=method, loss=squared)(inputs, targets, flat(0.5), augmented=True)
    assert_same(found, *by_definition(model, inputs, targets, flat(0.5), squared))


def test_the_contribution_of_one_example_never_exceeds_the_bound():
    model, (inputs, targets) = small_cnn(), batch((1, 8, 8), 6, 2)
    for rule in (flat(0.3), automatic(0.3)):
        clipped = clipper(model)
        whole = clipped(inputs, targets, rule, augmented=True).sums
        for left_out in range(6):
            rest = [row for row in range(6) if row != left_out]
            without = clipped(inputs[rest], targets[rest], rule, augmented=True).sums
            moved = torch.stack([(a - b).norm() for a, b in zip(whole, without, strict=True)]).norm()
            assert float(moved) <= 0.3 * (1 + 1e-5)
