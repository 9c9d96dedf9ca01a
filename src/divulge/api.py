"""What Python users call."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from divulge.auditing.access import GRADIENTS, POSTERIORS, WEIGHTS, divided, releases, require_used
from divulge.auditing.audit import Means, comparable, prepare
from divulge.auditing.audit import audit as conduct
from divulge.auditing.gradients.audit import Sharing, require_module
from divulge.auditing.gradients.audit import prepare as prepare_sharing
from divulge.auditing.recommenders.door import basket_defenses, require_recommender
from divulge.auditing.recommenders.exchange import prepare as prepare_users
from divulge.auditing.recommenders.telling import audit as audit_users
from divulge.auditing.targets import as_target
from divulge.data import Dataset, as_dataset, cache_root
from divulge.data.interactions import are_interactions
from divulge.defenses import DEFENSES, Defense
from divulge.errors import BadInputError
from divulge.privacy.ledger import Ledger, read
from divulge.report import Report
from divulge.runs.engines import Engine, LocalEngine
from divulge.runs.progress import Progress
from divulge.runs.store import Store
from divulge.training import Recipe

Named = Defense | str | Mapping[str, Any]
"""A defense, its name, or its name and settings as TOML writes them."""

PROBED = 8
"""How many records a model is tried on before anything else."""


def audit(
    model: Any,
    *,
    members: Any,
    nonmembers: Any = None,
    access: str | Sequence[str] = POSTERIORS,
    budget: str = "standard",
    recipe: Recipe | None = None,
    defense: Named | None = None,
    defenses: Sequence[Named] | Named | None = None,
    ledger: Ledger | Path | str | None = None,
    delta: float = 1e-5,
    classes: Sequence[str] = (),
    logits: bool | None = None,
    query_budget: int | None = None,
    batch_sizes: Sequence[int] = (1, 4),
    training: bool | None = None,
    name: str = "",
    seed: int = 0,
    run_dir: str | Path | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    command: str = "",
) -> Report:
    """Measure what a model gives away: its answers about who was in its training set, what it takes its classes for and
    attributes of records; its weights about training records; its gradients about those of clients.

    Args:
        model: a `torch.nn.Module`, a fitted scikit-learn classifier, a `divulge.Endpoint`, or a function from float32
            records `(n, *shape)` to posteriors `(n, classes)`.
        members: training records of the model: a `divulge.Dataset`, whose attributes are guessed, a pair
            `(inputs, targets)`, or a `torch.utils.data.Dataset`. Images in `[0, 1]`. Users and their items, from
            `divulge.data.interactions` or a file of pairs, are those of a recommender, which is audited by the updates
            that users share.
        nonmembers: records of the same kind that it was not trained on, in any of these forms. For gradients they may
            be left out; the adversary has them, where they are given.
        access: what others get to see: `posteriors`, whoever queries the model; `weights`, whoever holds the model,
            and so the posteriors as well; `gradients`, a server of federated learning that receives one step of a
            client, whose records it tries to rebuild; or several, in one report.
        budget: `quick` trains nothing; `standard` trains 4 shadow models; `thorough` trains 16. They also draw up to
            10, 20 or 200 classes, and search weights for up to 20 seconds, 3 or 20 minutes. For gradients: how many
            records are attacked and how long is searched.
        recipe: how the model was trained, so that shadow models are trained alike; `Recipe()` if left out.
        defense: the defense it was trained under, by name or with settings; the adversary knows it.
        defenses: one or several to try on it, in the same forms, each against an adversary who does not know it and one
            who does. By default those that act on answers only, which takes no training. For each that acts in
            training, such as `dropout`, the architecture is trained anew under it, and as many shadow models again.
            Those that act on gradients, such as `soteria`, are tried on what clients share; none by default.
        ledger: of the model's private training, or the file it was saved in: what its epsilon promises is held against
            what is measured. With `defense="dp-sgd"`, shadow models are trained with the ledger's noise.
        delta: at which that epsilon is stated, below one over the ledger's records.
        classes: class names in the order of their numbers.
        logits: whether the model returns logits; found out if None.
        query_budget: how many records the model may be asked about in all. Without one, a function or an endpoint is
            asked at most twice as much as the records take.
        batch_sizes: for gradients, how many records a client's gradient is of; each is audited by itself.
        training: for gradients, whether the clients' model is in training mode; if None, it is where the model has
            batch norm and no dropout.
        name: what to call the model.
        seed: of everything drawn.
        run_dir: where finished steps are kept, so that the same call again goes on where it stopped; the user's cache
            folder if left out. It holds a copy of the records.
        engine: what trains shadow models; worker processes on this machine if left out.
        progress: who is told about the steps; nobody if left out.
        command: what to type to repeat the audit, for the report.

    Returns:
        The report: `print` it, or `.save("report.html")`.

    Raises:
        BadInputError: records or a model that no number may be computed from; the message says what to change.

    Example:
        >>> import tempfile, torch
        >>> records = torch.rand(60, 4), torch.arange(60) % 2
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = audit(
        ...         torch.nn.Linear(4, 2),
        ...         members=(records[0][:30], records[1][:30]),
        ...         nonmembers=(records[0][30:], records[1][30:]),
        ...         budget="quick",
        ...         logits=True,
        ...         run_dir=folder,
        ...     )
        >>> report.verdict.band
        0
    """
    doors = releases(access)
    if are_interactions(members):
        idle = {"recipe": recipe, "ledger": ledger, "logits": logits, "training": training}
        require_recommender(doors, idle | {"query_budget": query_budget})
        users = prepare_users(
            model,
            members,
            budget=budget,
            public=nonmembers,
            defense=None if defense is None else basket_defenses(defense)[0],
            defenses=() if defenses is None else basket_defenses(defenses),
            title=name,
            seed=seed,
        )
        call = f"divulge.audit(model, members=..., access='gradients', budget={budget!r}, seed={seed})"
        return Report(audit_users(users, command=command or call))
    require_used({"recipe": recipe, "defense": defense, "ledger": ledger}, doors, by=POSTERIORS)
    require_used({"training": training}, doors, by=GRADIENTS)
    inside = _records("members", members, classes)
    outside = None if nonmembers is None else _records("non-members", nonmembers, classes)
    if outside is not None:
        inside, outside = comparable(inside, outside)
    on_posteriors, on_gradients = divided(None if defenses is None else _several(defenses), doors)
    if GRADIENTS in doors:
        require_module(model)
    target = as_target(
        model, classes=inside.classes, probe=inside.inputs[:PROBED], logits=logits, name=name, budget=query_budget
    )
    store = Store(Path(run_dir) if run_dir is not None else cache_root() / "runs")
    engine = engine or LocalEngine()
    subject = exchange = None
    if GRADIENTS in doors:
        exchange = prepare_sharing(
            target,
            inside,
            Sharing(tuple(batch_sizes), training),
            budget=budget,
            store=store,
            engine=engine,
            public=outside,
            defenses=on_gradients,
            seed=seed,
            progress=progress,
        )
    if POSTERIORS in doors:
        if outside is None:
            raise BadInputError(
                "nonmembers: posteriors are audited with records that the model was not trained on, got none. Give "
                'some, or audit gradients (access="gradients").'
            )
        subject = prepare(
            target,
            inside,
            outside,
            Means(
                budget,
                recipe or Recipe(),
                None if defense is None else _defense(defense),
                seed,
                on_posteriors,
                read(ledger) if isinstance(ledger, (str, Path)) else ledger,
                delta,
                weights=WEIGHTS in doors,
            ),
            store=store,
            engine=engine,
            progress=progress,
        )
    private = "" if ledger is None else f"ledger=..., delta={delta:g}, "
    others = "" if nonmembers is None else "nonmembers=..., "
    which = "" if doors == (POSTERIORS,) else f"access={','.join(doors)!r}, "
    sizes = f"batch_sizes={tuple(batch_sizes)}, " if GRADIENTS in doors else ""
    call = f"divulge.audit(model, members=..., {others}{which}budget={budget!r}, {sizes}{private}seed={seed})"
    return Report(conduct(subject, command=command or call, exchange=exchange))


def _records(side: str, data: Any, classes: Sequence[str]) -> Dataset:
    try:
        return as_dataset(data, classes=classes)
    except BadInputError as error:
        raise BadInputError(f"{side}: {error}") from None


def _defense(defense: Named) -> Defense:
    return defense if isinstance(defense, Defense) else DEFENSES.make(defense)


def _several(defenses: Sequence[Named] | Named) -> tuple[Defense, ...]:
    return tuple(map(_defense, [defenses] if isinstance(defenses, (Defense, str, Mapping)) else defenses))
