"""How targets and shadow models are trained."""

from divulge.training.loop import Epoch, accuracy, fit, logits
from divulge.training.recipe import Recipe
from divulge.training.stacked import fit_stacked, stackable

__all__ = ["Epoch", "Recipe", "accuracy", "fit", "fit_stacked", "logits", "stackable"]
