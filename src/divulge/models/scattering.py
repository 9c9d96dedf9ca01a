"""The two-dimensional scattering transform: image features that need no training."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from divulge.errors import BadInputError

PI = 3.1415  # as Kymatio scales its filters
PERIODS = (-2, -1, 0, 1, 2)  # of the filters around the image, which the transform repeats
CHUNK = {"cpu": 16}  # planes transformed at once: on a processor their intermediate maps then stay in its cache


class Scattering(nn.Module):
    """Wavelet moduli of up to second order, averaged over squares of `2**scales` pixels (Bruna and Mallat 2013).

    Morlet wavelets, their scaling and the reflected borders are those of Kymatio's `Scattering2D` (Andreux et al. 2020,
    arXiv:1812.11214), and so are the values. Maps come in the order: average; first order by scale and angle; second
    order by first scale, first angle, second scale, second angle. A side that `2**scales` does not divide is rounded
    down.

    Args:
        shape: height and width of the images, each at least `2**scales`.
        scales: J, the number of wavelet sizes.
        angles: L, the number of wavelet directions within half a turn.

    Raises:
        BadInputError: an image smaller than the largest wavelet, or a count below one.

    Example:
        >>> Scattering((28, 28))(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 1, 81, 7, 7])
    """

    border0: Tensor
    border1: Tensor

    def __init__(self, shape: tuple[int, int], *, scales: int = 2, angles: int = 8) -> None:
        super().__init__()
        if scales < 1 or angles < 1 or min(shape) < 2**scales:
            raise BadInputError(
                f"scattering: expected at least one scale, one angle and images of {2**scales} pixels a side for "
                f"{scales} scales, got {scales} scales, {angles} angles and images of {shape[0]} x {shape[1]}."
            )
        self.shape, self.scales, self.angles = tuple(shape), scales, angles
        self.output = tuple(side // 2**scales for side in shape)
        padded = tuple((side // 2**scales + 2) * 2**scales for side in shape)
        for axis, (side, full) in enumerate(zip(shape, padded, strict=True)):
            before = (full - side) // 2
            mirrored = np.pad(np.arange(side), (before, full - side - before), mode="reflect")
            self._keep(f"border{axis}", torch.from_numpy(mirrored))
            for level in range(scales):
                self._keep(f"average{axis}_{level}", torch.from_numpy(averaging(full, level, scales)).float())
        for scale in range(scales):
            bank = np.stack([morlet(padded, scale, angle, angles) for angle in range(angles)])
            for level in range(max(scale, 1)):
                cropped = crop(crop(bank, level, axis=1), level, axis=2)
                self._keep(f"wavelets{level}_{scale}", _answering(cropped, 2 ** (scale - level)))

    def _keep(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    @property
    def channels(self) -> int:
        """Maps per channel of the image: `1 + L J + L**2 J (J - 1) / 2`."""
        first = self.scales * self.angles
        return 1 + first + first * self.angles * (self.scales - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Transform `(N, C, H, W)` to `(N, C, channels, H // 2**J, W // 2**J)`."""
        if x.ndim != 4 or tuple(x.shape[2:]) != self.shape:
            raise BadInputError(
                f"scattering: expected images (N, C, {self.shape[0]}, {self.shape[1]}), got {tuple(x.shape)}."
            )
        if not len(x):
            return x.new_zeros(*x.shape[:2], self.channels, *self.output)  # no transform of nothing exists
        with torch.autocast(x.device.type, enabled=False):
            parts = [self._transform(part) for part in x.float().flatten(0, 1).split(CHUNK.get(x.device.type, 1024))]
        return torch.cat(parts).view(*x.shape[:2], self.channels, *self.output)

    def _transform(self, planes: Tensor) -> Tensor:
        padded = planes[:, self.border0][:, :, self.border1]
        spectrum = torch.fft.fft2(padded)
        first, second = [self._average(padded[:, None], 0)], []
        for j1 in range(self.scales):
            moduli = self._moduli(spectrum, 0, j1)
            first.append(self._average(moduli, j1))
            if j1 + 1 < self.scales:
                spectra = torch.fft.fft2(moduli).flatten(0, 1)
                deeper = [self._average(self._moduli(spectra, j1, j2), j2) for j2 in range(j1 + 1, self.scales)]
                second.append(torch.cat(deeper, dim=1).view(len(planes), -1, *self.output))
        return torch.cat(first + second, dim=1)

    def _moduli(self, spectra: Tensor, level: int, scale: int) -> Tensor:
        """Moduli `(B, L, h, w)` of the wavelets' answers at `scale` to spectra `(B, H, W)` at `level`."""
        wavelets = getattr(self, f"wavelets{level}_{scale}")
        aliases = torch.view_as_real(aliased(spectra, 2 ** (scale - level)))[:, None]
        answers = aliases[:, :, 0] * wavelets[:, 0]
        for alias in range(1, wavelets.shape[1]):
            answers = torch.addcmul(answers, aliases[:, :, alias], wavelets[:, alias])
        return torch.fft.ifft2(torch.view_as_complex(answers)).abs()

    def _average(self, maps: Tensor, level: int) -> Tensor:
        """Local averages `(B, K, H', W')` of maps at `level`, without the borders."""
        rows, columns = getattr(self, f"average0_{level}"), getattr(self, f"average1_{level}")
        return rows @ maps @ columns.T


def aliased(spectra: Tensor, factor: int) -> Tensor:
    """Spectra `(B, H, W)` in blocks `(B, factor**2, h, w)`, which add up if every `factor`-th pixel is kept."""
    if factor == 1:
        return spectra[:, None]
    batch, height, width = spectra.shape
    blocks = spectra.view(batch, factor, height // factor, factor, width // factor)
    return blocks.transpose(2, 3).flatten(1, 2).contiguous()


def crop(spectra: np.ndarray, level: int, *, axis: int) -> np.ndarray:
    """The lowest of the frequencies along an axis, one in `2**level`."""
    size = spectra.shape[axis]
    kept = size // 2**level
    return np.take(spectra, np.r_[: kept // 2, size - kept + kept // 2 : size], axis=axis)


def averaging(size: int, level: int, scales: int) -> np.ndarray:
    """The Gaussian low-pass along one axis of `size` padded pixels, from `level` down to one value per `2**scales`.

    A matrix, because the Gaussian separates: two small products replace a transform forth and back for every map. The
    outermost values, which the borders reach, are left out.
    """
    width = 0.8 * 2 ** (scales - 1)
    spectrum = crop(np.fft.fft(_envelope(size, width)).real, level, axis=0)
    kernel = np.fft.ifft(spectrum).real
    places = np.arange(0, size, 2**scales)[1:-1] // 2**level
    return kernel[(places[:, None] - np.arange(len(kernel))) % len(kernel)]


def morlet(size: tuple[int, int], scale: int, angle: int, angles: int) -> np.ndarray:
    """A Morlet wavelet's spectrum, which is real: a wave in a long Gaussian, less what gives it a mean of zero."""
    width, frequency = 0.8 * 2**scale, 0.75 * math.pi / 2**scale
    slant, theta = 4 / angles, (angles // 2 - 1 - angle) * math.pi / angles
    cos, sin = math.cos(theta), math.sin(theta)
    envelope, wave = np.zeros(size), np.zeros(size, dtype=complex)
    for down in PERIODS:
        for right in PERIODS:
            y, x = np.mgrid[: size[0], : size[1]] + np.array([down * size[0], right * size[1]])[:, None, None]
            along, across = y * cos + x * sin, y * sin - x * cos
            gauss = np.exp(-(along**2 + (slant * across) ** 2) / (2 * width**2))
            envelope += gauss
            wave += gauss * np.exp(1j * frequency * along)
    wavelet = (wave - wave.sum() / envelope.sum() * envelope) * slant / (2 * PI * width**2)
    return np.fft.fft2(wavelet).real


def _envelope(size: int, width: float) -> np.ndarray:
    places = np.arange(size) + size * np.array(PERIODS)[:, None]
    return np.exp(-(places**2) / (2 * width**2)).sum(axis=0) / math.sqrt(2 * PI * width**2)


def _answering(bank: np.ndarray, factor: int) -> Tensor:
    """Wavelets `(L, factor**2, h, w, 2)`, once for the real and once for the imaginary part of a spectrum."""
    aliases = aliased(torch.from_numpy(bank).float(), factor) / factor**2
    return aliases[..., None].repeat(1, 1, 1, 1, 2)
