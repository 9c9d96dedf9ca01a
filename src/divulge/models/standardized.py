"""Convolutions whose weights are standardized wherever they are used, which private training gains from."""

from typing import Literal

import torch
from torch import Tensor, nn


class StandardizedConv2d(nn.Conv2d):
    """A convolution with weights of mean 0 and standard deviation 1 in each output channel (Qiao et al. 2019).

    It leaves the scale of its output to the normalization that follows. Source: arXiv:1903.10520. `weight` is what is
    trained and saved; its standardized form exists inside `forward` only, and no example enters it.

    Example:
        >>> layer = StandardizedConv2d(3, 2, 5)
        >>> layer.standardized().std(dim=(1, 2, 3)).allclose(torch.ones(2), atol=1e-3)
        True
    """

    def standardized(self) -> Tensor:
        """The weights as they are used: `(W - mean) / (std + 1e-5)`, with the unbiased deviation."""
        deviation, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        return (self.weight - mean) / (deviation + 1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `(N, C, H, W)`."""
        return self._conv_forward(x, self.standardized(), self.bias)


class ScaledConv2d(StandardizedConv2d):
    """A standardized convolution that keeps the scale of its input, with a learned gain and a bias.

    Weights start normal, of variance one over the number of inputs. Source: Brock et al. 2021 (arXiv:2101.08692), as De
    et al. 2022 (arXiv:2204.13650) train it privately. Arguments are those of `torch.nn.Conv2d`.

    Example:
        >>> layer = ScaledConv2d(4, 2, 5)
        >>> layer.standardized().var(dim=(1, 2, 3), correction=0).allclose(torch.tensor(1 / 100))
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | str | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode=padding_mode
        )
        self.gain = nn.Parameter(torch.ones(out_channels, 1, 1, 1))

    def reset_parameters(self) -> None:
        """Draw fresh weights; the bias starts at zero."""
        nn.init.normal_(self.weight, std=self.weight[0].numel() ** -0.5)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]
        if hasattr(self, "gain"):  # not yet when Conv2d's constructor calls
            nn.init.ones_(self.gain)

    def standardized(self) -> Tensor:
        """The weights as they are used: `gain * (W - mean) / sqrt(max(var * fan_in, 1e-4))`."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), correction=0, keepdim=True)
        scale = (variance * self.weight[0].numel()).clamp(min=1e-4).rsqrt()
        return self.gain * scale * (self.weight - mean)
