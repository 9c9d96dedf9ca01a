"""The command line."""

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from divulge.runs.engines import Engine
    from divulge.runs.store import Store


class Commands(TyperGroup):
    """The commands, each of which may be interrupted from the keyboard."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _say("divulge: stopped. What was finished is kept; the same command goes on from there.")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure what a trained neural network gives away about its training data, and what defenses buy and cost.",
)


class Budget(StrEnum):
    """How much an audit may spend."""

    QUICK = "quick"
    STANDARD = "standard"
    THOROUGH = "thorough"


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


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the reports.")] = Path("report"),
    run_dir: RunDir = None,
) -> None:
    """Audit a digits classifier and a face recognizer, on data that ships with a dependency."""
    from divulge.demo import run

    _say(f"Two models will be trained and audited; reports go to {out}/. About a minute on two cores.")
    for report in run(_folder(run_dir), progress=_progress()):
        page = report.save(out / report.facts.title.replace(" ", "-"))
        print(report)
        print(f"report: {page}\n")


@app.command()
def audit(
    members: Annotated[str, typer.Option(help="Training records: a data set's name, or a file or folder.")],
    nonmembers: Annotated[str, typer.Option(help="Records of the same kind that the model was not trained on.")],
    model: Annotated[str | None, typer.Option(help="file.py:factory, a function that returns the model.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Its weights: .safetensors or a plain state dict.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="URL of a server that speaks the Open Inference Protocol.")
    ] = None,
    endpoint_model: Annotated[str, typer.Option(help="Name of the model on that server.")] = "",
    query_budget: Annotated[int | None, typer.Option(help="Ask about at most this many records.")] = None,
    label: Annotated[str, typer.Option(help="Name of the label column, where there are several.")] = "",
    logits: Annotated[
        bool | None, typer.Option("--logits/--probabilities", help="What the model returns; found out if left out.")
    ] = None,
    budget: Annotated[
        Budget, typer.Option(help="quick trains nothing; standard 4 shadow models; thorough 16.")
    ] = Budget.STANDARD,
    recipe: Annotated[Path | None, typer.Option(help="TOML file on how the model was trained.")] = None,
    defense: Annotated[str | None, typer.Option(help="The defense it was trained under, by name.")] = None,
    defenses: Annotated[
        str | None,
        typer.Option(
            help="Defenses to try on it, such as dropout,top-k; else those that act on answers only, which takes no "
            "training. For dropout and others that act in training, it is trained anew, and as many shadow models."
        ),
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="The ledger of its private training: its epsilon is held against what is shown.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="With --ledger: chance left out of the promise; 1e-5 if left out.")
    ] = None,
    name: Annotated[str, typer.Option(help="What to call the model.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.json and records.csv.")] = Path("report"),
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn.")] = 0,
    data_dir: DataDir = None,
    run_dir: RunDir = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Audit a model and write a report to act on.

    With neither --model nor --endpoint, --members and --nonmembers are tables of posteriors and labels (CSV or NPZ).
    """
    import shlex

    from divulge.api import PROBED
    from divulge.auditing.audit import Means, comparable, estimate, prepare
    from divulge.auditing.audit import audit as conduct
    from divulge.auditing.targets import Endpoint, as_target, load_model, table_target
    from divulge.data import load
    from divulge.defenses import DEFENSES
    from divulge.errors import BadInputError
    from divulge.privacy.ledger import read
    from divulge.report import Report, writable

    if delta is not None and ledger is None:
        raise BadInputError("--delta needs --ledger, whose epsilon is stated at it.")
    if model and endpoint:
        raise BadInputError("give either --model or --endpoint, not both.")
    if not model and not endpoint and weights:
        raise BadInputError("--weights needs --model, file.py:factory, whose weights these are.")
    if endpoint and not endpoint_model:
        raise BadInputError("--endpoint needs --endpoint-model, the model's name on that server.")
    writable(out)
    spent = read(ledger) if ledger else None
    if model or endpoint:
        inside = load(members, data_dir=data_dir, target=label)
        part = "test" if members == nonmembers else "train"
        try:
            outside = load(nonmembers, data_dir=data_dir, target=label, part=part, like=inside)
        except BadInputError as error:
            if part == "train":
                raise
            raise BadInputError(
                f"--members and --nonmembers are both {members}, so its parts train and test were asked for, but "
                f"{error} Give each side records of its own."
            ) from None
        inside, outside = comparable(inside, outside)
        given = Endpoint(endpoint, endpoint_model) if endpoint else load_model(model or "", weights)
        title = name or endpoint_model or Path((model or "").rpartition(":")[0]).stem
        target = as_target(
            given, classes=inside.classes, probe=inside.inputs[:PROBED], logits=logits, name=title, budget=query_budget
        )
    else:
        target, inside, outside = table_target(Path(members), Path(nonmembers), logits=logits, name=name)
        inside, outside = comparable(inside, outside)
    tried = None if defenses is None else tuple(DEFENSES.make(one.strip()) for one in defenses.split(","))
    means = Means(
        budget.value,
        _recipe(recipe),
        DEFENSES.make(defense) if defense else None,
        seed,
        tried,
        ledger=spent,
        delta=1e-5 if delta is None else delta,
    )
    subject = prepare(
        target,
        inside,
        outside,
        means,
        store=_store(run_dir),
        engine=_engine(engine, workers, address),
        progress=_progress(),
    )
    cost = estimate(subject)
    asked = sum(len(rows) for rows in subject.corpus.parts.values())
    again = f", and {cost.retrained} models to try {', '.join(one.label for one in subject.retrained)}"
    _say(
        f"Asking {target.name} about {asked:,} records and training {cost.shadows or 'no'} shadow models"
        f"{again if cost.retrained else ''}: about {_duration(cost.seconds + 10)}, less what the run folder has "
        "already."
    )
    report = Report(conduct(subject, command=shlex.join(["divulge", *sys.argv[1:]])))
    page = report.save(out)
    print(report)
    print(f"report: {page}")


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A study's name (divulge list studies) or a TOML file.")],
    scale: Annotated[str, typer.Option(help="quick: minutes on a laptop; full: the published size.")] = "quick",
    out: Annotated[Path, typer.Option(help="Folder for the results' JSON.")] = Path("results"),
    data_dir: DataDir = None,
    run_dir: RunDir = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Run a study of the literature: the published numbers beside ours."""
    from divulge.report import writable
    from divulge.report.results import table
    from divulge.studies import run_study

    writable(out)
    results = run_study(
        study,
        scale=scale,
        store=_store(run_dir),
        engine=_engine(engine, workers, address),
        data_dir=data_dir,
        progress=_progress(),
    )
    path = results.write(out)
    _print(table(results))
    print(f"results: {path}")


@app.command()
def results(
    folder: Annotated[Path, typer.Argument(help="Folder with results of studies.")] = Path("results"),
    page: Annotated[Path | None, typer.Option(help="Write the reproduction page (Markdown) here.")] = None,
) -> None:
    """Print results of studies, or write the page of the documentation that shows them."""
    from divulge.report.results import read_all, table, write_page

    found = read_all(folder)
    if page is not None:
        write_page(found, page)
        print(f"wrote {page}")
        return
    for one in found:
        _print(table(one))


@app.command()
def report(
    source: Annotated[Path, typer.Argument(help="A report.json, or the folder that holds it.")],
    out: Annotated[Path | None, typer.Option(help="Write the page here again; print a summary if left out.")] = None,
) -> None:
    """Show a finished audit again."""
    from divulge.report import Report

    found = Report.read(source)
    print(found)
    if out is not None:
        print(f"report: {found.save(out)}")


@app.command("epsilon")
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
        _print(part)


@app.command("list")
def list_(what: Annotated[Listed, typer.Argument(help="What to list.")]) -> None:
    """List what there is, each with a line on it."""
    from rich.table import Table

    table = Table("name", "what it is", box=None, padding=(0, 2, 0, 0))
    for name, summary in _listings()[what]().items():
        table.add_row(name, summary)
    _print(table)


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


def _folder(run_dir: Path | None) -> Path:
    from divulge.data import cache_root

    return run_dir if run_dir is not None else cache_root() / "runs"


def _store(run_dir: Path | None) -> "Store":
    from divulge.runs.store import Store

    return Store(_folder(run_dir))


def _engine(name: str, workers: int | None, address: str | None) -> "Engine":
    from divulge.runs.engines import engine

    return engine(name, workers=workers, address=address)


def _progress() -> Any:
    from divulge.runs.progress import RichProgress

    return RichProgress()


def _recipe(path: Path | None) -> Any:
    import tomllib

    from divulge.errors import BadInputError
    from divulge.settings import build
    from divulge.training import Recipe

    if path is None:
        return Recipe()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path}: expected a TOML file with settings of Recipe, but {error}.") from None
    return build(Recipe, values, where=str(path))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _print(renderable: Any) -> None:
    from rich.console import Console

    Console().print(renderable)


def main() -> None:
    """Run the command line; errors that divulge raises on purpose end it with one line and status 2."""
    from divulge.errors import DivulgeError

    try:
        app()
    except DivulgeError as error:
        _say(f"divulge: {' '.join(str(error).split())}")
        sys.exit(2)


if __name__ == "__main__":
    main()
