"""Inverting gradients: the angle of the gradient, and what images look like."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from divulge.attacks.gradients.adam import Schedule, Sign
from divulge.attacks.gradients.search import Search


@dataclass(frozen=True)
class InvertingGradients(Search):
    """Matches the gradient's direction under total variation by signed Adam in a box, with the labels known.

    The settings are those of the paper's experiments with many images: 4,800 steps; its single images take 24,000. The
    weight of the total variation is what the authors' code has on its command line; its library has 0.1, and their
    table does not say. On a LeNet with large weights the gradient itself, with a cosine schedule, comes closer than its
    signs.
    """

    name: ClassVar[str] = "inverting-gradients"
    source: ClassVar[str] = "Geiping et al. 2020, arXiv 2003.14053"

    tv: float = 1e-4
    steps: int = 4800
    sign: Sign = "hard"
    schedule: Schedule = "steps"


@dataclass(frozen=True)
class ModernInvertingGradients(InvertingGradients):
    """Inverting gradients with its author's later settings: patterned start, soft sign, cosine decay, color variation.

    Those of the preset "modern" of breaching, without its match of features.
    """

    name: ClassVar[str] = "inverting-gradients-modern"
    source: ClassVar[str] = "Geiping et al. 2020, arXiv 2003.14053; github.com/JonasGeiping/breaching"

    tv: float = 0.1
    variation: Literal["anisotropic", "color"] = "color"
    start: Literal["uniform", "normal", "patterned"] = "patterned"
    steps: int = 24_000
    sign: Sign = "soft"
    schedule: Schedule = "cosine"
    warmup: int = 50
