"""Options that several commands share, and the words that they take."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Budget(StrEnum):
    """How much an audit may spend."""

    QUICK = "quick"
    STANDARD = "standard"
    THOROUGH = "thorough"


class Mode(StrEnum):
    """The mode of a client's model while it computes what it shares."""

    EVALUATION = "evaluation"
    TRAINING = "training"


class Listed(StrEnum):
    """What can be listed."""

    ATTACKS = "attacks"
    DEFENSES = "defenses"
    MODELS = "models"
    DATASETS = "datasets"
    STUDIES = "studies"


class Accounting(StrEnum):
    """Who computes an epsilon."""

    PLD = "pld"
    RDP = "rdp"
    RDP_2017 = "rdp-2017"


class Batches(StrEnum):
    """How the records of a private step are chosen."""

    POISSON = "poisson"
    SHUFFLED = "shuffled"


DataDir = Annotated[
    Path | None, typer.Option(help="Folder with data sets; else the environment variable DIVULGE_DATA, else the cache.")
]
RunDir = Annotated[
    Path | None, typer.Option(help="Where finished steps are kept; the same command again goes on where it stopped.")
]
EngineName = Annotated[str, typer.Option("--engine", help="local (worker processes) or ray.")]
Workers = Annotated[int | None, typer.Option(help="How many steps to run at once.")]
Address = Annotated[str | None, typer.Option(help="Address of a running Ray cluster.")]
