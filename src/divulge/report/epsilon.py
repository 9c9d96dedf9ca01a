"""An epsilon in the terminal: how it was computed, and what it stops."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from divulge.errors import BadInputError
from divulge.privacy.accounting import Accountant, Spent, epsilon
from divulge.privacy.ledger import Ledger, Phase
from divulge.privacy.loss import PrivacyLoss, privacy_loss
from divulge.privacy.words import PRIORS, at_most, in_words, stops
from divulge.report.words import number

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

REMARKS = {
    "pld": "tight: quote this one",
    "gaussian": "exact: quote this one",
    "rdp": "looser, by Rényi divergences",
    "rdp-2017": "looser still: for papers until 2020",
}


def statement(
    what: Ledger | Sequence[Phase], *, delta: float, accountant: Accountant = "pld", priors: Sequence[float] = ()
) -> "list[RenderableType]":
    """The parts to print: what was spent, what was released, the accountants, what is stopped, and that in words.

    Args:
        what: a ledger, or phases.
        delta: the probability left out of the promise.
        accountant: whose epsilon is the first line.
        priors: chances of guessing a record right without the model, besides 1/10 and 1/256.

    Raises:
        BadInputError: see `divulge.privacy.accounting.epsilon`; also a prior outside (0, 1).
    """
    for prior in priors:
        if not 0 < prior < 1:
            raise BadInputError(f"prior: expected a chance above 0 and below 1, got {prior:g}.")
    phases, adjacency = (what.phases, what.adjacency) if isinstance(what, Ledger) else (what, "add-remove")
    tellers: list[Accountant] = ["pld"]
    if adjacency == "add-remove":
        tellers += ["rdp", "rdp-2017"]
    if accountant not in tellers:
        raise BadInputError(f"accountant {accountant!r}: cannot account for replace-one adjacency. Use pld.")
    spent = {teller: epsilon(what, delta=delta, accountant=teller) for teller in tellers}
    loss = privacy_loss(what)
    edges = [
        f"{one.accountant}: the best order is an end of the grid, so that more orders might show a smaller epsilon."
        for one in spent.values()
        if one.on_edge
    ]
    return [
        f"[bold]epsilon {number(spent[accountant].epsilon)}[/bold] at delta {number(delta)}",
        *(_released(phase) for phase in phases),
        *(f"[bold]{caveat}[/bold]" for caveat in loss.caveats),
        "",
        _accountants(list(spent.values())),
        *edges,
        "",
        _limits(loss, (*PRIORS, *priors)),
        "",
        in_words(replace(loss, caveats=())),
    ]


def _released(phase: Phase) -> str:
    way = "Poisson sampling" if phase.sampling == "poisson" else "shuffled batches"
    return (
        f"{phase.steps:,} steps, noise multiplier {phase.noise_multiplier:.4g}, "
        f"{way} of {at_most(phase.sampling_rate)} a step"
    )


def _accountants(spent: list[Spent]) -> "Table":
    from rich.table import Table

    table = Table("accountant", box=None, padding=(0, 2, 0, 0))
    table.add_column("epsilon", justify="right")
    table.add_column("best order", justify="right")
    table.add_column()
    for one in spent:
        order = "" if one.order is None else f"{one.order:g}"
        name, _, remark = one.accountant.partition(", ")
        table.add_row(name, number(one.epsilon), order, remark or REMARKS[name])
    return table


def _limits(loss: PrivacyLoss, priors: Sequence[float]) -> "Table":
    from rich.table import Table

    table = Table("what an adversary gets", box=None, padding=(0, 2, 0, 0))
    table.add_column("at most", justify="right")
    table.add_column("without the model", justify="right")
    for stop in stops(loss, priors=priors):
        table.add_row(stop.what, at_most(stop.most), at_most(stop.guess))
    return table
