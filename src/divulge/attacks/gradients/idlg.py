"""Improved deep leakage from gradients: the label first, then the image."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from divulge.attacks.gradients.dlg import DLG


@dataclass(frozen=True)
class IDLG(DLG):
    """DLG with the label of a batch of one read from the last layer's weight gradient, stopped at a loss of 1e-6."""

    name: ClassVar[str] = "idlg"
    source: ClassVar[str] = "Zhao, Mopuri and Bilen 2020, arXiv 2001.02610"

    labels: Literal["bias", "weight", "joint"] = "weight"
    enough: float = 1e-6
