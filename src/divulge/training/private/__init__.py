"""Training with differential privacy: DP-SGD, its clipped sums, its noise and what it has spent."""

from divulge.training.private.loop import Private, fit_private
from divulge.training.private.settings import Privacy

__all__ = ["Privacy", "Private", "fit_private"]
