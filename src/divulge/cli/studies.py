"""Studies of the literature and their results."""

from pathlib import Path
from typing import Annotated

import typer

from divulge.cli import common
from divulge.cli.options import Address, DataDir, EngineName, RunDir, Workers


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
        store=common.store(run_dir),
        engine=common.engine(engine, workers, address),
        data_dir=data_dir,
        progress=common.progress(),
    )
    path = results.write(out)
    common.show(table(results))
    print(f"results: {path}")


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
        common.show(table(one))
