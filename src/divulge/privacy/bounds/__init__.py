"""Epsilon lower bounds from what was observed of canaries, one bound per file."""

from divulge.privacy.bounds.base import Bound, LowerBound
from divulge.registry import Registry

BOUNDS: Registry[Bound] = Registry("bounds", __name__, Bound)

__all__ = ["BOUNDS", "Bound", "LowerBound"]
