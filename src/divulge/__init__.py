"""divulge measures what a trained neural network gives away about the data it was trained on.

Three lines for one's own model:

    import divulge
    report = divulge.audit(model, members=train, nonmembers=test)
    report.save("report.html")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from divulge.api import audit
    from divulge.auditing.targets import Endpoint
    from divulge.data import Dataset
    from divulge.report import Report
    from divulge.training import Recipe

_HOMES = {
    "audit": "divulge.api",
    "Dataset": "divulge.data",
    "Endpoint": "divulge.auditing.targets",
    "Recipe": "divulge.training",
    "Report": "divulge.report",
}

__all__ = ["Dataset", "Endpoint", "Recipe", "Report", "audit"]


def __getattr__(name: str) -> Any:
    """Load a public name where it is first used, so that importing the package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'divulge' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
