"""Records planted in a private training to check by experiment what its ledger promises, one kind per file."""

from divulge.auditing.canaries.base import Canary, Planted
from divulge.registry import Registry

CANARIES: Registry[Canary] = Registry("canaries", __name__, Canary)

__all__ = ["CANARIES", "Canary", "Planted"]
