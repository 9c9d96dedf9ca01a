"""Releases: what leaves the building, and all that an attack may see of the target."""

from divulge.releases.gradients import GradientRecord, Tampering, share
from divulge.releases.posteriors import FLOOR, Posteriors, table_to_logits
from divulge.releases.representation import Representation
from divulge.releases.weights import Weights

__all__ = [
    "FLOOR",
    "GradientRecord",
    "Posteriors",
    "Representation",
    "Tampering",
    "Weights",
    "share",
    "table_to_logits",
]
