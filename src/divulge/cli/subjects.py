"""From what a person typed to what is audited."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from divulge.api import PROBED
from divulge.auditing import audit as auditing
from divulge.auditing.access import GRADIENTS, POSTERIORS, WEIGHTS, divided, releases, require_used
from divulge.auditing.facts import Facts
from divulge.auditing.gradients.audit import Exchange, Sharing, require_module
from divulge.auditing.gradients.audit import prepare as prepare_sharing
from divulge.auditing.gradients.audit_time import expected
from divulge.auditing.probes import probes
from divulge.auditing.subject import Subject
from divulge.auditing.targets import Endpoint, Target, as_target, load_model, table_target
from divulge.cli import recommenders
from divulge.cli.common import duration
from divulge.data import Dataset, load
from divulge.defenses import DEFENSES
from divulge.errors import BadInputError
from divulge.privacy.ledger import read
from divulge.runs.engines import Engine
from divulge.runs.progress import Progress
from divulge.runs.store import Store
from divulge.settings import build
from divulge.training import Recipe


@dataclass(frozen=True)
class Options:
    """The options of `divulge audit` that say what is audited, and how."""

    members: str
    nonmembers: str | None
    access: str
    model: str | None
    weights: Path | None
    endpoint: str | None
    endpoint_model: str
    query_budget: int | None
    label: str
    attributes: str
    logits: bool | None
    budget: str
    recipe: Path | None
    defense: str | None
    defenses: str | None
    ledger: Path | None
    delta: float | None
    batch_sizes: str | None
    training: bool | None
    name: str
    seed: int
    data_dir: Path | None


@dataclass(frozen=True, eq=False)
class Audit:
    """What is audited: posteriors and what goes with them, gradients, or both."""

    subject: Subject | None
    exchange: Exchange | None

    def announcement(self) -> str:
        """What will be done, and how long it takes."""
        told = [_posteriors(self.subject)] if self.subject else []
        told += [_gradients(self.exchange)] if self.exchange else []
        return "\n".join(told)

    def conduct(self, command: str) -> Facts:
        """Do it."""
        return auditing.audit(self.subject, command=command, exchange=self.exchange)


def opened(options: Options, *, store: Store, engine: Engine, progress: Progress) -> Audit | recommenders.UserAudit:
    """Load the model and the records, and see that they can be audited.

    Raises:
        BadInputError: options that contradict each other, or what loading or preparing refuses.
    """
    doors = releases(options.access)
    if recommenders.holds_users(options.members):
        return recommenders.opened(options, doors)
    _require_consistent(options, doors)
    spent = read(options.ledger) if options.ledger else None
    target, inside, outside = _loaded(options)
    tried = None if options.defenses is None else [DEFENSES.make(one.strip()) for one in options.defenses.split(",")]
    on_posteriors, on_gradients = divided(tried, doors)
    common: dict[str, Any] = {"store": store, "engine": engine, "progress": progress}
    subject = exchange = None
    if GRADIENTS in doors:
        exchange = prepare_sharing(
            target,
            inside,
            Sharing(_sizes(options.batch_sizes or "1,4"), options.training),
            budget=options.budget,
            public=outside,
            defenses=on_gradients,
            seed=options.seed,
            **common,
        )
    if POSTERIORS in doors and outside is not None:
        means = auditing.Means(
            options.budget,
            _recipe(options.recipe),
            DEFENSES.make(options.defense) if options.defense else None,
            options.seed,
            on_posteriors,
            ledger=spent,
            delta=1e-5 if options.delta is None else options.delta,
            weights=WEIGHTS in doors,
        )
        subject = auditing.prepare(target, inside, outside, means, **common)
    return Audit(subject, exchange)


def _require_consistent(options: Options, doors: tuple[str, ...]) -> None:
    given = {"--recipe": options.recipe, "--defense": options.defense, "--ledger": options.ledger}
    require_used(given | {"--attributes": options.attributes or None}, doors, by=POSTERIORS)
    require_used({"--mode": options.training, "--batch-sizes": options.batch_sizes}, doors, by=GRADIENTS)
    if options.delta is not None and options.ledger is None:
        raise BadInputError("--delta needs --ledger, whose epsilon is stated at it.")
    if options.nonmembers is not None and recommenders.holds_users(options.nonmembers):
        raise BadInputError(
            "--nonmembers: expected records with labels, as the members are, got a table of users and items. Give "
            "records, or users and their items as the members too."
        )
    if options.model and options.endpoint:
        raise BadInputError("give either --model or --endpoint, not both.")
    if not options.model and not options.endpoint and options.weights:
        raise BadInputError("--weights needs --model, file.py:factory, whose weights these are.")
    if not options.model and not options.endpoint and options.attributes:
        raise BadInputError("--attributes needs --model or --endpoint: a table of answers holds no columns of records.")
    if options.endpoint and not options.endpoint_model:
        raise BadInputError("--endpoint needs --endpoint-model, the model's name on that server.")
    if options.nonmembers is None and POSTERIORS in doors:
        raise BadInputError(
            "--nonmembers is needed to audit posteriors: records that the model was not trained on. Give some, or "
            "audit gradients (--access gradients)."
        )


def _loaded(options: Options) -> tuple[Target, Dataset, Dataset | None]:
    """The model, the members and, where they were given, the non-members."""
    if not options.model and not options.endpoint:
        if GRADIENTS in releases(options.access):
            raise BadInputError(
                "--model is needed, file.py:factory: a client shares the gradient of a torch module, which a table of "
                "answers does not have."
            )
        assert options.nonmembers is not None
        tables = Path(options.members), Path(options.nonmembers)
        target, inside, outside = table_target(*tables, logits=options.logits, name=options.name)
        return target, *auditing.comparable(inside, outside)
    inside = load(options.members, **_reading(options))
    _require_secret(inside, _columns(options))
    others = None
    if options.nonmembers is not None:
        inside, others = auditing.comparable(inside, _nonmembers(options, options.nonmembers, inside))
    given = (
        Endpoint(options.endpoint, options.endpoint_model)
        if options.endpoint
        else load_model(options.model or "", options.weights)
    )
    if GRADIENTS in releases(options.access):
        require_module(given)
    title = options.name or options.endpoint_model or Path((options.model or "").rpartition(":")[0]).stem
    target = as_target(
        given,
        classes=inside.classes,
        probe=inside.inputs[:PROBED],
        logits=options.logits,
        name=title,
        budget=options.query_budget,
    )
    return target, inside, others


def _reading(options: Options) -> dict[str, Any]:
    """How records are loaded."""
    return {"data_dir": options.data_dir, "target": options.label, "attributes": _columns(options)}


def _columns(options: Options) -> list[str]:
    """The columns that are to be guessed."""
    return [one.strip() for one in options.attributes.split(",") if one.strip()]


def _require_secret(records: Dataset, columns: Sequence[str]) -> None:
    """See that the columns to guess say other things than the label."""
    labels = records.targets.tolist()
    for name in columns:
        values = records.attributes[name].tolist()
        if len(set(zip(values, labels, strict=True))) == len(set(values)) == len(set(labels)):
            raise BadInputError(
                f"--attributes: {name} says the same as the label of every record, which whoever guesses knows. Leave "
                "it out."
            )


def _nonmembers(options: Options, source: str, inside: Dataset) -> Dataset:
    part = "test" if options.members == source else "train"
    try:
        return load(source, **_reading(options), part=part, like=inside)
    except BadInputError as error:
        if part == "train":
            raise
        raise BadInputError(
            f"--members and --nonmembers are both {source}, so its parts train and test were asked for, but {error} "
            "Give each side records of its own."
        ) from None


def _posteriors(subject: Subject) -> str:
    """What each question takes that can be asked."""
    able = [one for one in probes() if one.idle(subject) is None and one.unable(subject) is None]
    first, *others = [f"{work.words}: about {duration(work.seconds)}" for work in (one.work(subject) for one in able)]
    return "\n".join([f"{first}, less what the run folder has already.", *(f"{line}." for line in others)])


def _gradients(exchange: Exchange) -> str:
    sizes = " and ".join(f"{exchange.clients(batch)} with a batch of {batch}" for batch in exchange.batch_sizes)
    tried = f", also under {', '.join(one.label for one in exchange.defenses)}" if exchange.defenses else ""
    return (
        f"Sharing gradients of {exchange.target.name} as clients would, {sizes}, and attacking them{tried}: at most "
        f"about {duration(expected(exchange) + 10)}, less where a closed form succeeds, and less what the run folder "
        "has already."
    )


def _sizes(told: str) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in told.split(","))
    except ValueError:
        raise BadInputError(f"--batch-sizes: expected numbers such as 1,4, got {told!r}.") from None


def _recipe(path: Path | None) -> Recipe:
    import tomllib

    if path is None:
        return Recipe()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path}: expected a TOML file with settings of Recipe, but {error}.") from None
    return build(Recipe, values, where=str(path))
