"""The command line."""

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from divulge.cli.accounting import epsilon_
from divulge.cli.audits import audit, demo, report
from divulge.cli.common import say
from divulge.cli.listing import list_
from divulge.cli.studies import results, run


class Commands(TyperGroup):
    """The commands, each of which may be interrupted from the keyboard."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("divulge: stopped. What was finished is kept; the same command goes on from there.")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure what a trained neural network gives away about its training data, and what defenses buy and cost.",
)
for function in (demo, audit, run, results, report):
    app.command()(function)
app.command("epsilon")(epsilon_)
app.command("list")(list_)


def main() -> None:
    """Run the command line; errors that divulge raises on purpose end it with one line and status 2."""
    from divulge.errors import DivulgeError

    try:
        app()
    except DivulgeError as error:
        say(f"divulge: {' '.join(str(error).split())}")
        sys.exit(2)


__all__ = ["app", "main"]
