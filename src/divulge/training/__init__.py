"""How targets and shadow models are trained."""

from divulge.training.loop import Epoch, accuracy, fit, logits
from divulge.training.private import Privacy, Private, fit_private
from divulge.training.recipe import Recipe
from divulge.training.stacked import fit_stacked, stackable

__all__ = [
    "Epoch",
    "Privacy",
    "Private",
    "Recipe",
    "accuracy",
    "fit",
    "fit_private",
    "fit_stacked",
    "logits",
    "stackable",
]
