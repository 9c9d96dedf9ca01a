"""Federated averaging, simulated: who holds which records, what clients compute and share, and what the server does."""

from divulge.training.federated.capture import Behind, Capture
from divulge.training.federated.convergence import Comparison, compare, rounds_to
from divulge.training.federated.loop import Federated, Round, fit_federated
from divulge.training.federated.partition import by_classes, iid, partition
from divulge.training.federated.settings import Federation

__all__ = [
    "Behind",
    "Capture",
    "Comparison",
    "Federated",
    "Federation",
    "Round",
    "by_classes",
    "compare",
    "fit_federated",
    "iid",
    "partition",
    "rounds_to",
]
