"""Deep leakage from gradients: images and soft labels, searched for by L-BFGS."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from divulge.attacks.gradients.search import Labels, Search


@dataclass(frozen=True)
class DLG(Search):
    """Matches gradients in squared distance by L-BFGS from noise, with a soft label searched for beside each image.

    It needs a network that can be differentiated twice, with large weights, and loses a share of its starts: raise
    `restarts`. The settings are those of the authors' code.
    """

    name: ClassVar[str] = "dlg"
    source: ClassVar[str] = "Zhu, Liu and Han 2019, arXiv 1906.08935"

    distance: Literal["l2", "l1", "cosine", "gaussian", "laplace"] = "l2"
    labels: Labels = "joint"
    box: tuple[float, float] | None = None
    optimizer: Literal["adam", "lbfgs"] = "lbfgs"
    steps: int = 300
    lr: float = 1.0
