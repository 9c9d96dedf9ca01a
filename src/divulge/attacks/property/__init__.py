"""Attacks that tell something of a whole training set: how large a group's share in it was."""

from divulge.attacks.property.base import PropertyAttack, PropertyGuesses
from divulge.attacks.property.black_box import ChosenQueries, GroupLoss, NearestWorld
from divulge.attacks.property.white_box import DeepSets, SortedWeights, StoredStatistics

__all__ = [
    "ChosenQueries",
    "DeepSets",
    "GroupLoss",
    "NearestWorld",
    "PropertyAttack",
    "PropertyGuesses",
    "SortedWeights",
    "StoredStatistics",
]
