"""Records as pictures or short rows of text."""

import base64
import io
import math

import torch
from PIL import Image

from divulge.data import Dataset


def png(image: torch.Tensor, *, least: int = 96) -> str:
    """An image `(C, H, W)` in `[0, 1]` as a PNG data URI, enlarged by whole pixels to at least `least` a side."""
    factor = max(1, math.ceil(least / max(image.shape[1:])))
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    array = pixels[0].numpy() if len(pixels) < 3 else pixels[:3].permute(1, 2, 0).numpy()
    picture = Image.fromarray(array)
    return _uri(picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST))


def blank(height: int, width: int) -> str:
    """A transparent picture of these proportions, to stand where there is none."""
    return _uri(Image.new("LA", (width, height)))


def _uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def row_text(data: Dataset, row: int, *, columns: int = 8) -> str:
    """The first columns of a table's row, by name where they have names."""
    values = [f"{value:.4g}" for value in data.inputs[row][:columns].tolist()]
    named = [f"{name} {value}" for name, value in zip(data.features, values, strict=False)]
    return ", ".join(named or values) + (", …" if data.inputs.shape[1] > columns else "")
