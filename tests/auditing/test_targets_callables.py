"""Python callables as targets."""

import numpy as np
import pytest
import torch
from torch import nn

from divulge.auditing.targets import as_target
from divulge.errors import BadInputError


@pytest.fixture
def records():
    return torch.rand(12, 6, generator=torch.Generator().manual_seed(0))


class TestCallable:
    def test_a_function_of_arrays_gets_arrays(self, records):
        def model(x):
            assert type(x) is np.ndarray
            assert x.dtype == np.float32
            return x[:, :3] / x[:, :3].sum(axis=1, keepdims=True)

        target = as_target(model, classes=3, probe=records)
        shares = records[:, :3] / records[:, :3].sum(1, keepdim=True)
        assert (target.kind, target.name, target.module, target.parameters) == ("Python callable", "model", None, None)
        assert np.allclose(np.exp(target.release.logits(records)), shares, atol=1e-6)

    def test_a_function_of_tensors_gets_tensors(self, records):
        linear = nn.Linear(6, 3)
        target = as_target(lambda x: linear(x).softmax(1), classes=3, probe=records)
        assert np.allclose(np.exp(target.release.logits(records)), linear(records).softmax(1).detach(), atol=1e-6)

    def test_queries_are_counted_the_probe_included_and_bounded(self, records):
        asked = []

        def model(x):
            asked.append(len(x))
            return np.full((len(x), 2), 0.5)

        target = as_target(model, classes=2, probe=records, budget=20)
        assert target.release.queries == sum(asked) == 10
        target.release.logits(records[:10])
        with pytest.raises(BadInputError, match="query budget: 20 of 20 used, 1 more asked"):
            target.release.logits(records[:1])
        assert sum(asked) == 20

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            (lambda x: x.shout(), r"(?s)given a NumPy array: AttributeError: .*; given a tensor: AttributeError"),
            (lambda x: [["a", "b"]] * len(x), "got list"),
            (lambda x: np.full((len(x), 2), np.nan), "NaN or infinity"),
            (lambda x: None, "got None. Does the model return it"),
            (lambda x: np.full((3, 2), 0.5), r"expected an answer of shape \(8, 2\), got \(3, 2\)"),
        ],
    )
    def test_what_it_must_not_do(self, model, message, records):
        with pytest.raises(BadInputError, match=message):
            as_target(model, classes=2, probe=records)

    def test_a_module_left_in_training_mode_inside_is_noticed(self, records):
        model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).train()
        with pytest.raises(BadInputError, match=r"call eval\(\) on that"):
            as_target(lambda x: model(x).softmax(1), classes=3, probe=records)

    def test_lists_and_labels_as_one_hot_rows_are_posteriors(self, records):
        target = as_target(lambda x: [[0, 1] for _ in x], classes=2, probe=records)
        assert np.allclose(np.exp(target.release.logits(records)), [[0, 1]])
