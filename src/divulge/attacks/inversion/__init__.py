"""Attacks that draw what a classifier takes for a class, such as a person's face."""

from divulge.attacks.inversion.base import InversionAttack, Inversions
from divulge.attacks.inversion.black_box import BlackBoxInversion
from divulge.attacks.inversion.latent import LatentInversion
from divulge.attacks.inversion.mi_face import MIFace
from divulge.attacks.inversion.prior import PrincipalComponents

__all__ = [
    "BlackBoxInversion",
    "InversionAttack",
    "Inversions",
    "LatentInversion",
    "MIFace",
    "PrincipalComponents",
]
