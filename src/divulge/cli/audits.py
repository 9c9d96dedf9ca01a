"""Audits and their reports."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from divulge.cli import common
from divulge.cli.options import Address, Budget, DataDir, EngineName, Mode, RunDir, Workers


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the reports.")] = Path("report"),
    run_dir: RunDir = None,
) -> None:
    """Audit a digits classifier and a face recognizer, on data that ships with a dependency."""
    from divulge.demo import run

    common.say(f"Two models will be trained and audited; reports go to {out}/. A few minutes on two cores.")
    for report in run(common.folder(run_dir), progress=common.progress()):
        page = report.save(out / report.facts.title.replace(" ", "-"))
        print(report)
        print(f"report: {page}\n")


def audit(
    members: Annotated[str, typer.Option(help="Training records: a data set's name, or a file or folder.")],
    nonmembers: Annotated[
        str | None,
        typer.Option(help="Records of the same kind that the model was not trained on; needed for posteriors."),
    ] = None,
    access: Annotated[
        str,
        typer.Option(
            help="What others get to see: posteriors; weights, and so posteriors too; gradients (of a client in "
            "federated learning); or several with commas."
        ),
    ] = "posteriors",
    model: Annotated[str | None, typer.Option(help="file.py:factory, a function that returns the model.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Its weights: .safetensors or a plain state dict.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="URL of a server that speaks the Open Inference Protocol.")
    ] = None,
    endpoint_model: Annotated[str, typer.Option(help="Name of the model on that server.")] = "",
    query_budget: Annotated[
        int | None,
        typer.Option(
            help="Ask about at most this many records; else an endpoint about at most twice the records given."
        ),
    ] = None,
    label: Annotated[str, typer.Option(help="Name of the label column, where there are several.")] = "",
    attributes: Annotated[
        str, typer.Option(help="Columns to guess beyond the label, such as sex,age; a named data set has its own.")
    ] = "",
    logits: Annotated[
        bool | None, typer.Option("--logits/--probabilities", help="What the model returns; found out if left out.")
    ] = None,
    budget: Annotated[
        Budget, typer.Option(help="quick trains nothing; standard 4 shadow models; thorough 16. Or how long to search.")
    ] = Budget.STANDARD,
    recipe: Annotated[Path | None, typer.Option(help="TOML file on how the model was trained.")] = None,
    defense: Annotated[str | None, typer.Option(help="The defense it was trained under, by name.")] = None,
    defenses: Annotated[
        str | None,
        typer.Option(
            help="Defenses to try on it, such as dropout,top-k; else those that act on answers only, which takes no "
            "training. For dropout and others that act in training, it is trained anew, and as many shadow models. "
            "With --access gradients: such as soteria; else none."
        ),
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="The ledger of its private training: its epsilon is held against what is shown.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="With --ledger: chance left out of the promise; 1e-5 if left out.")
    ] = None,
    batch_sizes: Annotated[
        str | None,
        typer.Option(help="With --access gradients: records that a client's gradient is of; 1,4 if left out."),
    ] = None,
    mode: Annotated[
        Mode | None,
        typer.Option(help="With --access gradients: of the clients' model; training if left out, with batch norm."),
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

    from divulge.cli.subjects import Options, opened
    from divulge.report import Report, writable

    writable(out)
    command = shlex.join(["divulge", *sys.argv[1:]])
    audit = opened(
        Options(
            members=members,
            nonmembers=nonmembers,
            access=access,
            model=model,
            weights=weights,
            endpoint=endpoint,
            endpoint_model=endpoint_model,
            query_budget=query_budget,
            label=label,
            attributes=attributes,
            logits=logits,
            budget=budget.value,
            recipe=recipe,
            defense=defense,
            defenses=defenses,
            ledger=ledger,
            delta=delta,
            batch_sizes=batch_sizes,
            training=None if mode is None else mode is Mode.TRAINING,
            name=name,
            seed=seed,
            data_dir=data_dir,
        ),
        store=common.store(run_dir),
        engine=common.engine(engine, workers, address),
        progress=common.progress(),
    )
    common.say(audit.announcement())
    report = Report(audit.conduct(command))
    page = report.save(out)
    print(report)
    print(f"report: {page}")


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
