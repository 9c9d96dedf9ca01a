"""What commands share: where steps are kept, what runs them, and how a person is spoken to."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from divulge.runs.engines import Engine
    from divulge.runs.progress import Progress
    from divulge.runs.store import Store


def folder(run_dir: Path | None) -> Path:
    """Where finished steps are kept."""
    from divulge.data import cache_root

    return run_dir if run_dir is not None else cache_root() / "runs"


def store(run_dir: Path | None) -> "Store":
    """What keeps them."""
    from divulge.runs.store import Store

    return Store(folder(run_dir))


def engine(name: str, workers: int | None, address: str | None) -> "Engine":
    """What runs them."""
    from divulge.runs import engines

    return engines.engine(name, workers=workers, address=address)


def progress() -> "Progress":
    """What shows how far they are."""
    from divulge.runs.progress import RichProgress

    return RichProgress()


def duration(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 90:
        return "1 second" if round(seconds) == 1 else f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def say(text: str) -> None:
    """Tell the person something that is no result."""
    print(text, file=sys.stderr)


def show(renderable: Any) -> None:
    """Write a result."""
    from rich.console import Console

    Console().print(renderable)
