"""What protects a model, one defense per file."""

from divulge.defenses.base import Defense, Trained
from divulge.registry import Registry

DEFENSES: Registry[Defense] = Registry("defenses", __name__, Defense)

__all__ = ["DEFENSES", "Defense", "Trained"]
