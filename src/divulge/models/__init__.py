"""Networks, one family per file, and their layers."""

from divulge.models.base import Architecture, Featured, Head, seeded
from divulge.models.layers import Normalize
from divulge.registry import Registry

MODELS: Registry[Architecture] = Registry("models", __name__, Architecture)

__all__ = ["MODELS", "Architecture", "Featured", "Head", "Normalize", "seeded"]
