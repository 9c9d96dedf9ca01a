"""How close images are: against the definitions, loop by loop."""

import math

import numpy as np
import pytest
import torch

from divulge.errors import BadInputError
from divulge.metrics.images import best_order, mse, psnr, ssim


def images(n=4, shape=(3, 12, 10), seed=0):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def slow_ssim(a, b, window):
    """Wang et al. 2004, window by window."""
    scores = []
    for channel in range(a.shape[0]):
        for top in range(a.shape[1] - window + 1):
            for left in range(a.shape[2] - window + 1):
                x = a[channel, top : top + window, left : left + window].ravel()
                y = b[channel, top : top + window, left : left + window].ravel()
                (xx, xy), (_, yy) = np.cov(x, y)
                scores.append(
                    ((2 * x.mean() * y.mean() + 1e-4) * (2 * xy + 9e-4))
                    / ((x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (xx + yy + 9e-4))
                )
    return np.mean(scores)


def test_mse_and_psnr_are_those_of_clamped_pixels():
    truth = images()
    found = truth + 0.5 * images(seed=1) - 0.25
    expected = [((a.clip(0, 1) - b) ** 2).mean() for a, b in zip(found.double().numpy(), truth.numpy(), strict=True)]
    assert np.allclose(mse(found, truth), expected)
    assert np.allclose(psnr(found, truth), [-10 * math.log10(one) for one in expected])
    assert mse(found, truth).dtype == torch.float64
    assert (mse(truth + 1e6, torch.ones_like(truth)) == 0).all()


@pytest.mark.parametrize("window", [3, 7])
def test_ssim_is_that_of_the_definition(window):
    truth, found = images(2, (2, 9, 8)).double(), images(2, (2, 9, 8), seed=1).double()
    mixed = 0.7 * truth + 0.3 * found
    expected = [slow_ssim(a, b, window) for a, b in zip(mixed.numpy(), truth.numpy(), strict=True)]
    assert np.allclose(ssim(mixed, truth, window=window), expected)


def test_the_same_image_is_perfect_and_its_negative_is_not():
    truth = images()
    assert torch.allclose(ssim(truth, truth), torch.ones(4).double())
    assert torch.isinf(psnr(truth, truth)).all()
    assert (ssim(1 - truth, truth) < 0.1).all()


def test_the_order_of_a_batch_is_undone():
    truth = images(6)
    shuffle = torch.randperm(6, generator=torch.Generator().manual_seed(2))
    found = (truth + 0.05 * images(6, seed=3))[shuffle]
    order = best_order(found, truth)
    assert torch.equal(shuffle[order], torch.arange(6))


def test_the_best_order_is_better_than_each_taking_its_nearest():
    # both records are nearest to the first reconstruction, which only one can have
    truth, found = torch.tensor([[0.5], [0.6]]), torch.tensor([[0.55], [0.9]])
    assert best_order(found, truth).tolist() == [0, 1]


def test_tables_have_errors_too():
    assert mse(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 0.0]])).tolist() == [0.5]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mse(images(3), images(4)), "of one shape"),
        (lambda: mse(images() * torch.nan, images()), "holds NaN"),
        (lambda: psnr(images(), images() * 2 - 1), r"records in \[0, 1\]"),
        (lambda: ssim(images(), images(), window=4), "odd window"),
        (lambda: ssim(images(), images(), window=11), "odd window"),
        (lambda: ssim(images(shape=(5,)), images(shape=(5,))), "expected images"),
        (lambda: best_order(images(3), images(4)), "of one shape"),
    ],
)
def test_what_cannot_be_compared(call, words):
    with pytest.raises(BadInputError, match=words):
        call()
