"""Attacks that guess what is true of a record beyond what a model was made for."""

from divulge.attacks.attributes.base import AttributeGuesses, require_attribute
from divulge.attacks.attributes.blanked import BlankAttack, Blanked, blank
from divulge.attacks.attributes.by_labels import ByLabels
from divulge.attacks.attributes.confidence import ConfidenceScores, WeightedConfidence
from divulge.attacks.attributes.decensoring import Decensoring
from divulge.attacks.attributes.fredrikson import Mistakes, TreeCounts
from divulge.attacks.attributes.imputation import Imputation
from divulge.attacks.attributes.neurons import Neurons
from divulge.attacks.attributes.overlearning import Overlearning
from divulge.attacks.attributes.repurposing import Repurposing

__all__ = [
    "AttributeGuesses",
    "BlankAttack",
    "Blanked",
    "ByLabels",
    "ConfidenceScores",
    "Decensoring",
    "Imputation",
    "Mistakes",
    "Neurons",
    "Overlearning",
    "Repurposing",
    "TreeCounts",
    "WeightedConfidence",
    "blank",
    "require_attribute",
]
