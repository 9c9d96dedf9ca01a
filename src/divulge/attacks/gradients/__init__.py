"""Gradient inversion: which records was this gradient computed on?"""

from divulge.attacks.gradients.base import GradientAttack, Reconstructions

__all__ = ["GradientAttack", "Reconstructions"]
