from pathlib import Path

import numpy as np
import pytest
import torch

from divulge.errors import BadInputError
from divulge.models.scattering import Scattering, averaging, morlet

# Made once by kymatio 0.3.0, its front end imported by full path, since the package itself does not load beside SciPy
# 1.17:
#   from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D
#   for J, L, size in ((1, 5, (6, 7)), (2, 8, (13, 8)), (3, 4, (16, 8))):
#       arrays[f"image{J}"] = image = np.random.default_rng(J).random(size, dtype=np.float32)
#       arrays[f"maps{J}"] = ScatteringTorch2D(J, size, L=L)(torch.from_numpy(image)).numpy()
#   np.savez_compressed("scattering_kymatio.npz", **arrays)
REFERENCE = Path(__file__).parent / "scattering_kymatio.npz"


def bordered(*, seed=0):
    """An image that is black near its border, where reflection then changes nothing."""
    image = torch.zeros(1, 1, 48, 48)
    image[..., 20:-20, 20:-20] = torch.rand(8, 8, generator=torch.Generator().manual_seed(seed))
    return image


@pytest.mark.parametrize(("scales", "angles"), [(1, 5), (2, 8), (3, 4)])
def test_maps_are_those_of_kymatio(scales, angles):
    with np.load(REFERENCE) as reference:
        image, maps = (torch.from_numpy(reference[f"{name}{scales}"]) for name in ("image", "maps"))
    ours = Scattering(tuple(image.shape), scales=scales, angles=angles)(image[None, None])[0, 0]
    assert ours.shape == maps.shape
    assert torch.allclose(ours, maps, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("scales", [1, 2, 3])
@pytest.mark.parametrize("shape", [(8, 8), (9, 14), (31, 17)])
def test_one_average_and_a_map_for_each_path_of_growing_scales(scales, shape):
    transform = Scattering(shape, scales=scales, angles=3)
    expected = 1 + 3 * scales + 9 * scales * (scales - 1) // 2
    maps = transform(torch.rand(2, 3, *shape))
    assert transform.channels == expected
    assert maps.shape == (2, 3, expected, shape[0] // 2**scales, shape[1] // 2**scales)
    assert maps.isfinite().all()


def test_batches_of_any_length_are_transformed_image_by_image():
    transform, images = Scattering((8, 8)), torch.rand(37, 2, 8, 8)
    alone = torch.stack([transform(plane.view(1, 1, 8, 8))[0, 0] for plane in images.flatten(0, 1)])
    assert torch.allclose(transform(images).flatten(0, 1), alone, atol=1e-6)
    assert transform(images[:0]).shape == (0, 2, 81, 2, 2)


def test_a_constant_image_has_nothing_but_its_average():
    maps = Scattering((16, 16))(torch.full((1, 1, 16, 16), 0.7))[0, 0]
    assert torch.allclose(maps[0], torch.tensor(0.7), atol=1e-4)
    assert maps[1:].abs().max() < 1e-6


def test_a_grating_answers_at_its_own_scale_and_angle():
    rows, columns = np.mgrid[:48, :48]
    waves = []
    for scale in range(3):
        for theta in (3 - np.arange(8)) * np.pi / 8:
            waves.append(np.cos(0.75 * np.pi / 2**scale * (rows * np.cos(theta) + columns * np.sin(theta))))
    maps = Scattering((48, 48), scales=3)(torch.from_numpy(np.stack(waves)).float()[:, None])
    assert torch.equal(maps[:, 0, 1:25, 2:-2, 2:-2].mean((2, 3)).argmax(dim=1), torch.arange(24))


def test_a_shift_by_a_whole_square_shifts_the_maps_and_a_shift_by_a_pixel_moves_them_little():
    transform, image = Scattering((48, 48)), bordered()
    maps, whole = transform(image), transform(image.roll(4, dims=3))
    assert torch.allclose(whole[..., 1:], maps[..., :-1], atol=1e-6)
    pixel = image.roll(1, dims=3)
    assert (transform(pixel) - maps).norm() / maps.norm() < 0.5 * (pixel - image).norm() / image.norm()


def test_the_mirror_image_has_mirrored_maps_with_angles_swapped():
    transform, image = Scattering((48, 48)), bordered()
    maps = transform(image)[0, 0]
    mirrored = transform(image.flip(3).roll(1, dims=3))[0, 0]  # about a point where maps are sampled
    swapped = (6 - torch.arange(8)) % 8
    first = 1 + torch.cat([8 * scale + swapped for scale in range(2)])
    second = 17 + (8 * swapped[:, None] + swapped).flatten()
    order = torch.cat([torch.tensor([0]), first, second])
    assert torch.allclose(mirrored[order][:, :, 1:], maps[:, :, 1:].flip(2), atol=1e-6)
    assert not torch.allclose(mirrored[:, :, 1:], maps[:, :, 1:].flip(2), atol=1e-3)


@pytest.mark.parametrize(("scales", "angles"), [(1, 8), (2, 4), (2, 8), (3, 8)])
def test_no_frequency_gains_energy(scales, angles):
    size = 6 * 2**scales
    bank = np.stack([morlet((size, size), scale, angle, angles) for scale in range(scales) for angle in range(angles)])
    opposite = np.roll(bank[:, ::-1, ::-1], 1, axis=(1, 2))
    low = np.abs(np.fft.fft(averaging(size, 0, scales)[0]))
    littlewood_paley = np.outer(low, low) ** 2 + (bank**2 + opposite**2).sum(axis=0) / 2
    assert littlewood_paley.max() < 1.03
    assert littlewood_paley.min() > 0.1, "and none is lost"


def test_two_images_are_no_further_apart_than_their_pixels():
    transform, generator = Scattering((48, 48)), torch.Generator().manual_seed(0)
    for seed in range(5):
        one = bordered(seed=seed)
        other = one + 0.1 * torch.randn(one.shape, generator=generator) * (one > 0)
        apart = 4 * (transform(one) - transform(other)).norm()  # a map's value stands for 4 x 4 pixels
        assert 0 < apart <= 1.03 * (one - other).norm()


def test_gradients_reach_the_pixels():
    image = torch.rand(1, 1, 8, 8, dtype=torch.float32, requires_grad=True)
    transform = Scattering((8, 8), angles=4)
    (gradient,) = torch.autograd.grad(transform(image).square().sum(), image)
    step = torch.zeros_like(image)
    step[0, 0, 3, 5] = 1e-2
    ahead, behind = (float(transform(image.detach() + sign * step).square().sum()) for sign in (1, -1))
    assert float(gradient[0, 0, 3, 5]) == pytest.approx((ahead - behind) / 2e-2, rel=0.02)


def test_reduced_precision_around_it_changes_nothing():
    transform, images = Scattering((8, 8)), torch.rand(2, 1, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = transform(images)
    assert torch.equal(inside, transform(images))


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((3, 8), {}, "images of 4 pixels a side"),
        ((16, 7), {"scales": 3}, "images of 8 pixels a side"),
        ((8, 8), {"scales": 0}, "at least one scale"),
        ((8, 8), {"angles": 0}, "one angle"),
    ],
)
def test_settings_without_a_transform_are_refused(shape, settings, message):
    with pytest.raises(BadInputError, match=message):
        Scattering(shape, **settings)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 1, 8, 9), (2, 64)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(BadInputError, match=r"expected images \(N, C, 8, 8\)"):
        Scattering((8, 8))(torch.rand(shape))
