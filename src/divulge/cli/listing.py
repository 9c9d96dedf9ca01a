"""What there is."""

from collections.abc import Callable
from typing import Annotated

import typer

from divulge.cli.common import show
from divulge.cli.options import Listed

KINDS = ("membership", "gradients", "recommenders", "inversion", "attributes", "property", "reconstruction")
"""Kinds of attacks, in the order they are listed in."""


def list_(what: Annotated[Listed, typer.Argument(help="What to list.")]) -> None:
    """List what there is, each with a line on it."""
    from rich.table import Table

    if what is Listed.ATTACKS:
        table = Table("what is attacked, and by what", "what it is", box=None, padding=(0, 2, 0, 0))
        for kind, found in attacks_by_kind().items():
            table.add_row(kind)
            for name, summary in found.items():
                table.add_row(f"  {name}", summary)
    else:
        table = Table("name", "what it is", box=None, padding=(0, 2, 0, 0))
        for name, summary in _listings()[what]().items():
            table.add_row(name, summary)
    show(table)


def attacks_by_kind() -> dict[str, dict[str, str]]:
    """The line on each attack, by the room that it lives in; those of third parties come last."""
    from divulge.attacks import ATTACKS

    room, others = f"{ATTACKS.package}.", "others"
    found: dict[str, dict[str, str]] = {}
    for name, summary in ATTACKS.summaries().items():
        module = ATTACKS[name].__module__
        kind = module.removeprefix(room).partition(".")[0] if module.startswith(room) else others
        found.setdefault(kind, {})[name] = summary
    order = [*(kind for kind in KINDS if kind in found), *sorted(found.keys() - {*KINDS, others}), others]
    return {kind: found[kind] for kind in order if kind in found}


def _listings() -> dict[Listed, Callable[[], dict[str, str]]]:

    def defenses() -> dict[str, str]:
        from divulge.defenses import DEFENSES
        from divulge.defenses.recommenders import BASKET_DEFENSES

        return DEFENSES.summaries() | BASKET_DEFENSES.summaries()

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
        Listed.DEFENSES: defenses,
        Listed.MODELS: models,
        Listed.DATASETS: datasets,
        Listed.STUDIES: studies,
    }
