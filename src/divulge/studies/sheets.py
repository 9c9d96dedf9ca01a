"""Strips of small pictures for sample sheets, compact enough to travel with a study's results."""

import base64
import io

import numpy as np
from PIL import Image

GAP = 2
"""White pixels between two pictures."""


def strip(images: np.ndarray) -> str:
    """Images `(N, C, H, W)` in `[0, 1]` side by side, as the base64 text of a PNG with at most 256 colors.

    Example:
        >>> strip(np.zeros((2, 1, 4, 4)))[:8]
        'iVBORw0K'
    """
    n, channels, height, width = images.shape
    sheet = np.full((height, n * (width + GAP) - GAP, channels), 255, dtype=np.uint8)
    for number, image in enumerate((images.astype(np.float64) * 255).round().clip(0, 255).astype(np.uint8)):
        start = number * (width + GAP)
        sheet[:, start : start + width] = image.transpose(1, 2, 0)
    picture = Image.fromarray(sheet[..., 0]) if channels == 1 else Image.fromarray(sheet).quantize(256)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
