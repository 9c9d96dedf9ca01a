"""The questions an audit asks, one family of attacks per file."""

from divulge.auditing.probes.base import Outcome, Probe
from divulge.registry import Registry

PROBES: Registry[Probe] = Registry("probes", __name__, Probe)

__all__ = ["PROBES", "Outcome", "Probe"]
