"""The questions an audit asks, one family of attacks per file."""

from divulge.auditing.probes.base import Outcome, Probe, Work
from divulge.registry import Registry

PROBES: Registry[Probe] = Registry("probes", __name__, Probe)


def probes() -> list[Probe]:
    """One of each, in the order of their cards."""
    return sorted((cls() for cls in PROBES.classes.values()), key=lambda probe: probe.place)


__all__ = ["PROBES", "Outcome", "Probe", "Work", "probes"]
