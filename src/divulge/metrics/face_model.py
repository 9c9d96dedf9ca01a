"""A face model that learned from millions of public photographs: a second opinion on whom a drawing shows."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divulge.errors import BadInputError, MissingExtraError

NETWORK, LANDMARKS = "dlib_face_recognition_resnet_model_v1.dat", "shape_predictor_5_face_landmarks.dat"
SIDE, PADDING = 150, 0.25


def installed() -> bool:
    """Whether the model and its weights are here."""
    return find_spec("dlib") is not None and _folder() is not None


def embeddings(
    images: Tensor,
    *,
    box: tuple[float, float, float, float] = (0.05, 0.16, 0.95, 0.95),
    watch: Callable[[float], None] = lambda share: None,
) -> Tensor:
    """Where the model puts faces: those of one person lie within about 0.6 of each other.

    The residual network of dlib (King 2009, jmlr.org/papers/v10/king09a), whose weights come with the packages of the
    extra `recognizer`. A face is not looked for but taken to fill `box`, since a drawing may be too poor to be found;
    its eyes and nose are then put in their places.

    Args:
        images: `(n, 1, H, W)` or `(n, 3, H, W)`, clamped to `[0, 1]`.
        box: left, top, right and bottom of the face, as shares of the image; by default as in the AT&T photographs.
        watch: called with the share of images that are done.

    Returns:
        float32 `(n, 128)`.

    Raises:
        MissingExtraError: the packages are not installed.
        BadInputError: what are no images.
    """
    folder = _folder()
    if folder is None or find_spec("dlib") is None:
        raise MissingExtraError("the pretrained face model needs two packages: pip install 'divulge[recognizer]'.")
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise BadInputError(f"face model: expected gray or color images (n, C, H, W), got {tuple(images.shape)}.")
    dlib: Any = import_module("dlib")  # no stubs
    network = dlib.face_recognition_model_v1(str(folder / NETWORK))
    landmarks = dlib.shape_predictor(str(folder / LANDMARKS))
    height, width = images.shape[-2:]
    left, top, right, bottom = box
    face = dlib.rectangle(int(left * width), int(top * height), int(right * width), int(bottom * height))
    rows = []
    colored = (images.clamp(0, 1) * 255).round().byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous()
    for number, image in enumerate(colored):
        watch(number / len(colored))
        pixels = image.numpy()
        chip = dlib.get_face_chip(pixels, landmarks(pixels, face), size=SIDE, padding=PADDING)
        rows.append(np.asarray(network.compute_face_descriptor(chip), dtype=np.float32))
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, 128)


def _folder() -> Path | None:
    """Where the weights lie; their package is not imported, since doing so needs a package of old setuptools."""
    found = find_spec("face_recognition_models")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / "models"
    return folder if (folder / NETWORK).is_file() and (folder / LANDMARKS).is_file() else None
