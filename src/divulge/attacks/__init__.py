"""What an adversary tries with a release."""

from divulge.attacks.base import Attack
from divulge.registry import Registry

ATTACKS: Registry[Attack] = Registry("attacks", __name__, Attack)

__all__ = ["ATTACKS", "Attack"]
