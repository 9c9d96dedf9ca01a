"""A group's share in a training set, read off the weights, in whatever order the neurons come."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from divulge.attacks.property.base import PropertyAttack, PropertyGuesses, discriminant
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.releases import Weights


@dataclass(frozen=True)
class SortedWeights(PropertyAttack):
    """A linear classifier on the weights, after each hidden layer's neurons are brought into one order.

    Ganju et al. 2018 (doi 10.1145/3243734.3243834), neuron sorting: by the sum of absolute incoming weights, with the
    next layer's columns moved along.
    """

    name: ClassVar[str] = "sorted-weights"
    source: ClassVar[str] = "Ganju et al. 2018, doi 10.1145/3243734.3243834"

    def run(self, shadows: Sequence[Weights], has: np.ndarray, targets: Sequence[Weights]) -> PropertyGuesses:
        """Tell the world of each target; see `PropertyAttack`.

        Raises:
            BadInputError: too few shadow models, or networks that are not fully connected alike.
        """
        self.require(shadows, has, targets)
        flat = [_sorted(layers) for layers in _stacked([*shadows, *targets])]
        features = np.stack(flat)
        fitted = _linear().fit(features[: len(shadows)], has)
        return PropertyGuesses(fitted.decision_function(features[len(shadows) :]))


@dataclass(frozen=True)
class DeepSets(PropertyAttack):
    """A network that reads each hidden layer as a set of neurons, so that their order cannot matter.

    Ganju et al. 2018 (doi 10.1145/3243734.3243834), on the sets of Zaheer et al. 2017 (arXiv 1703.06114): a neuron is
    its bias and its incoming weights, which beyond the first layer weigh what was made of the neurons that they come
    from. The means over each hidden layer, and the outputs one by one, are classified together. A tenth of the shadow
    models tell when to stop.

    Args:
        width: numbers that a neuron, and a layer, is summed up in.
        epochs: passes over the shadow models, at most.
        lr: learning rate of Adam.
        seed: of first weights and order.
    """

    name: ClassVar[str] = "deep-sets"
    source: ClassVar[str] = "Ganju et al. 2018, doi 10.1145/3243734.3243834"

    width: int = 32
    epochs: int = 60
    lr: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width < 1 or self.epochs < 1 or self.lr <= 0:
            raise BadInputError(
                f"deep-sets: expected a positive width, epochs and lr, got {self.width}, {self.epochs} and {self.lr}."
            )

    def run(self, shadows: Sequence[Weights], has: np.ndarray, targets: Sequence[Weights]) -> PropertyGuesses:
        """Tell the world of each target; see `PropertyAttack`.

        Raises:
            BadInputError: too few shadow models, or networks that are not fully connected alike.
        """
        self.require(shadows, has, targets)
        every = _stacked([*shadows, *targets])
        known = [
            _scaled(torch.stack([_rows(one[depth]) for one in every]), len(shadows), by_column=depth == 0)
            for depth in range(len(every[0]))
        ]
        truth = torch.from_numpy(has).float()
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(shadows), generator=generator)
        held, fit = order[: max(1, len(order) // 10)], order[max(1, len(order) // 10) :]
        with seeded(self.seed):
            reader = _Reader([layer.shape[1:] for layer in known], self.width)
        optimizer = torch.optim.Adam(reader.parameters(), self.lr, weight_decay=1e-3)
        best, state = float("inf"), reader.state_dict()
        for _ in range(self.epochs):
            for rows in fit[torch.randperm(len(fit), generator=generator)].split(32):
                loss = functional.binary_cross_entropy_with_logits(reader([one[rows] for one in known]), truth[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                checked = reader([one[held] for one in known])
                loss = functional.binary_cross_entropy_with_logits(checked, truth[held])
            if float(loss) < best:
                best, state = float(loss), {name: value.clone() for name, value in reader.state_dict().items()}
        reader.load_state_dict(state)
        with torch.no_grad():
            scores = reader([one[len(shadows) :] for one in known]).double().numpy()
        return PropertyGuesses(scores)


@dataclass(frozen=True)
class StoredStatistics(PropertyAttack):
    """Reads what a model stores of its training set outright: means of columns, running statistics.

    A layer that standardizes by the training records, or batch normalization, publishes their means; a group's share is
    then one of them and needs no search.
    """

    name: ClassVar[str] = "stored-statistics"

    def run(self, shadows: Sequence[Weights], has: np.ndarray, targets: Sequence[Weights]) -> PropertyGuesses:
        """Tell the world of each target; see `PropertyAttack`.

        Raises:
            BadInputError: too few shadow models, or networks that store nothing, nothing that differs, or not alike.
        """
        self.require(shadows, has, targets)
        stored = [
            [value.flatten() for value in one.model.buffers() if value.is_floating_point()]
            for one in (*shadows, *targets)
        ]
        if len({tuple(part.shape for part in parts) for parts in stored}) != 1:
            raise BadInputError("stored-statistics: expected networks of one architecture, got several.")
        if not stored[0]:
            raise BadInputError("stored-statistics: the networks store no statistics of their records (no buffers).")
        features = torch.stack([torch.cat(parts) for parts in stored]).double().numpy()
        known = features[: len(shadows)]
        varied = known.std(axis=0) > 0
        if not varied.any():
            raise BadInputError(
                "stored-statistics: what the shadow models store is the same in all of them, and so no statistic of "
                "their records. Take an attack that reads weights."
            )
        scores = discriminant(known[:, varied], has, features[len(shadows) :, varied])
        return PropertyGuesses(scores)


class _Reader(nn.Module):
    """Layers `(B, neurons, incoming + 1)` to one logit `(B,)`, whatever the order of the neurons in hidden ones."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], width: int) -> None:
        super().__init__()
        sizes = [shapes[0][1], *[width + 1] * (len(shapes) - 1)]
        self.neurons = nn.ModuleList(
            nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width)) for size in sizes
        )
        read = width * (len(shapes) - 1 + shapes[-1][0])
        self.world = nn.Sequential(nn.Linear(read, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        told: list[Tensor] = []
        neurons = self.neurons[0](layers[0])
        for neuron, layer in zip(list(self.neurons)[1:], layers[1:], strict=True):
            told.append(neurons.mean(dim=1))
            # a weight counts for the neuron that it comes from, not for its place
            carried = layer[:, :, :-1] @ neurons / neurons.shape[1] ** 0.5
            neurons = neuron(torch.cat([carried, layer[:, :, -1:]], dim=2))
        return self.world(torch.cat([*told, neurons.flatten(1)], dim=1))[:, 0]


def _stacked(models: Sequence[Weights]) -> list[list[tuple[Tensor, Tensor]]]:
    """Weight and bias of each fully connected layer of each network."""
    found = []
    for one in models:
        layers = [layer for layer in one.model.modules() if isinstance(layer, nn.Linear)]
        learned = sum(value.numel() for value in one.model.parameters())
        own = [(layer.weight.detach(), _bias(layer)) for layer in layers]
        if not own or sum(weight.numel() + len(bias) for weight, bias in own) < learned:
            raise BadInputError(
                f"property inference from weights: expected a fully connected network, got {type(one.model).__name__} "
                "with other layers that learn. Take an attack that asks."
            )
        found.append(own)
    if len({tuple(weight.shape for weight, _ in own) for own in found}) != 1:
        raise BadInputError("property inference from weights: expected networks of one architecture, got several.")
    return found


def _bias(layer: nn.Linear) -> Tensor:
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias.detach()


def _sorted(layers: Sequence[tuple[Tensor, Tensor]]) -> np.ndarray:
    """All weights in a row, neurons of each hidden layer by their sum of absolute incoming weights."""
    order, parts = None, []
    for depth, (weight, bias) in enumerate(layers):
        if order is not None:
            weight = weight[:, order]
        order = weight.abs().sum(dim=1).argsort() if depth < len(layers) - 1 else torch.arange(len(weight))
        parts += [weight[order].flatten(), bias[order]]
    return torch.cat(parts).double().numpy()


def _rows(layer: tuple[Tensor, Tensor]) -> Tensor:
    """Each neuron's incoming weights and bias, `(neurons, incoming + 1)`."""
    return torch.cat([layer[0], layer[1][:, None]], dim=1)


def _scaled(layer: Tensor, shadows: int, *, by_column: bool) -> Tensor:
    """Brought to the spread of the shadow models' weights: each input's by itself, or all alike but the biases."""
    known = layer[:shadows]
    deviation, mean = torch.std_mean(known, dim=(0, 1))
    if not by_column:
        weights = known[:, :, :-1]
        deviation = torch.cat([weights.std().expand(weights.shape[2]), deviation[-1:]])
        mean = torch.cat([weights.mean().expand(weights.shape[2]), mean[-1:]])
    return (layer - mean) / deviation.clamp_min(1e-6)


def _linear() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=500))
