"""Improved deep leakage from gradients: the label first, then the image."""

from dataclasses import dataclass
from typing import ClassVar

from divulge.attacks.gradients.dlg import DLG
from divulge.attacks.gradients.search import Labels


@dataclass(frozen=True)
class IDLG(DLG):
    """DLG with the label of a batch of one read from the last layer's weight gradient, stopped at a loss of 1e-6."""

    name: ClassVar[str] = "idlg"
    source: ClassVar[str] = "Zhao, Mopuri and Bilen 2020, arXiv 2001.02610"

    labels: Labels = "weight"
    enough: float = 1e-6
