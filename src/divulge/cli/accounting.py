"""What an epsilon promises."""

from pathlib import Path
from typing import Annotated

import typer

from divulge.cli.common import show
from divulge.cli.options import Accounting, Batches


def epsilon_(
    sampling_rate: Annotated[float | None, typer.Option(help="Expected share of the records in a step.")] = None,
    batch_size: Annotated[float | None, typer.Option(help="Or, with --records: expected records in a step.")] = None,
    records: Annotated[int | None, typer.Option(min=1, help="Records in the private set.")] = None,
    noise: Annotated[float | None, typer.Option(help="Noise multiplier: its standard deviation over the clip.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Or: find the noise that stays within this epsilon.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of training.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Or: passes over the records.")] = None,
    delta: Annotated[float, typer.Option(help="Chance left out of the promise, below one over the records.")] = 1e-5,
    sampling: Annotated[
        Batches | None, typer.Option(help="poisson if left out; shuffled batches count in full, without amplification.")
    ] = None,
    accountant: Annotated[Accounting, typer.Option(help="The one to quote and to find the noise by.")] = Accounting.PLD,
    prior: Annotated[
        list[float] | None, typer.Option(help="A chance to guess a record without the model; may be repeated.")
    ] = None,
    ledger: Annotated[Path | None, typer.Option(help="Or: the ledger that private training saved.")] = None,
) -> None:
    """Account for differentially private training, and say what its epsilon stops.

    Such as: divulge epsilon --sampling-rate 0.004 --noise 1.1 --steps 14400
    """
    from dataclasses import replace

    from divulge.errors import BadInputError
    from divulge.privacy.accounting import noise_multiplier
    from divulge.privacy.ledger import Ledger, Phase, read
    from divulge.privacy.words import up
    from divulge.report.epsilon import statement

    told = {
        "--sampling-rate": sampling_rate,
        "--batch-size": batch_size,
        "--records": records,
        "--noise": noise,
        "--epsilon": epsilon,
        "--steps": steps,
        "--epochs": epochs,
        "--sampling": sampling,
    }
    given = [name for name, value in told.items() if value is not None]
    what: Ledger | list[Phase]
    if ledger is not None:
        if given:
            raise BadInputError(f"--ledger tells all that was released; leave out {', '.join(given)}.")
        what = read(ledger)
    else:
        for one, other in (("--sampling-rate", "--batch-size"), ("--steps", "--epochs"), ("--noise", "--epsilon")):
            if (one in given) == (other in given):
                raise BadInputError(f"expected either {one} or {other}, got {'both' if one in given else 'neither'}.")
        if epochs is not None and epochs < 0:
            raise BadInputError(f"--epochs: expected 0 or more, got {epochs}.")
        rate = sampling_rate
        if rate is None:
            if batch_size is None or records is None:
                raise BadInputError("--batch-size needs --records, the number of records it is drawn from.")
            rate = batch_size / records
        way = sampling or Batches.POISSON
        phase = Phase(rate, 1.0 if noise is None else noise, steps or 0, way.value)
        if epochs is not None:
            each = phase.batches if way is Batches.SHUFFLED else 1 / rate
            phase = replace(phase, steps=round(epochs * each))
        if epsilon is not None:
            least = noise_multiplier(
                epsilon=epsilon,
                delta=delta,
                sampling_rate=rate,
                steps=phase.steps,
                accountant=accountant.value,
                sampling=way.value,
            )
            phase = replace(phase, noise_multiplier=up(least, 4))
        what = [phase] if records is None else Ledger(records, (phase,))
    for part in statement(what, delta=delta, accountant=accountant.value, priors=tuple(prior or ())):
        show(part)
