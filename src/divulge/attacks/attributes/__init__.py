"""Attacks that guess what is true of a record beyond what a model was made for."""

from divulge.attacks.attributes.base import AttributeGuesses
from divulge.attacks.attributes.overlearning import Overlearning

__all__ = ["AttributeGuesses", "Overlearning"]
