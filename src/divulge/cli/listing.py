"""What there is."""

from collections.abc import Callable
from typing import Annotated

import typer

from divulge.cli.common import show
from divulge.cli.options import Listed


def list_(what: Annotated[Listed, typer.Argument(help="What to list.")]) -> None:
    """List what there is, each with a line on it."""
    from rich.table import Table

    table = Table("name", "what it is", box=None, padding=(0, 2, 0, 0))
    for name, summary in _listings()[what]().items():
        table.add_row(name, summary)
    show(table)


def _listings() -> dict[Listed, Callable[[], dict[str, str]]]:
    def attacks() -> dict[str, str]:
        from divulge.attacks import ATTACKS

        return ATTACKS.summaries()

    def defenses() -> dict[str, str]:
        from divulge.defenses import DEFENSES

        return DEFENSES.summaries()

    def models() -> dict[str, str]:
        from divulge.models import MODELS

        return MODELS.summaries()

    def datasets() -> dict[str, str]:
        from divulge.data.catalog import summaries

        return summaries()

    def studies() -> dict[str, str]:
        from divulge.studies import listed

        return listed()

    return {
        Listed.ATTACKS: attacks,
        Listed.DEFENSES: defenses,
        Listed.MODELS: models,
        Listed.DATASETS: datasets,
        Listed.STUDIES: studies,
    }
