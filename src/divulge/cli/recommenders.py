"""From what a person typed to the audit of a recommender."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from divulge.auditing.facts import Facts
from divulge.auditing.recommenders.door import basket_defenses, require_recommender
from divulge.auditing.recommenders.exchange import UserExchange, prepare
from divulge.auditing.recommenders.telling import audit
from divulge.auditing.targets import load_model
from divulge.cli.common import duration
from divulge.data import load
from divulge.data.catalog import named_set, named_sets
from divulge.data.interactions import USER
from divulge.data.sources.interactions import table_parts
from divulge.errors import BadInputError

if TYPE_CHECKING:
    from divulge.cli.subjects import Options


@dataclass(frozen=True, eq=False)
class UserAudit:
    """The audit of a recommender: its users' updates."""

    exchange: UserExchange

    def announcement(self) -> str:
        """What will be done, and how long it takes."""
        return f"{self.exchange.announcement()} About {duration(self.exchange.seconds())}."

    def conduct(self, command: str) -> Facts:
        """Do it."""
        return audit(self.exchange, command=command)


def holds_users(source: str) -> bool:
    """Whether a name or a path stands for users and their items, rather than records with labels."""
    if source in named_sets():
        return USER in named_set(source).columns.get("label", ())
    return bool(table_parts(Path(source)))


def opened(options: "Options", doors: tuple[str, ...]) -> UserAudit:
    """Load the recommender and its users, and see that they can be audited.

    Raises:
        BadInputError: options that do not belong to a recommender, or what loading or preparing refuses.
    """
    given = {
        "--recipe": options.recipe,
        "--ledger": options.ledger,
        "--logits": options.logits,
        "--mode": options.training,
        "--batch-sizes": options.batch_sizes,
        "--endpoint": options.endpoint,
        "--endpoint-model": options.endpoint_model or None,
        "--query-budget": options.query_budget,
        "--delta": options.delta,
        "--label": options.label or None,
        "--attributes": options.attributes or None,
    }
    require_recommender(doors, given)
    if not options.model:
        raise BadInputError(
            "--model is needed, file.py:factory: a user shares the gradient of a torch module, which a table of "
            "interactions does not have."
        )
    part = "test" if options.members == options.nonmembers else "train"
    others = None if options.nonmembers is None else load(options.nonmembers, data_dir=options.data_dir, part=part)
    exchange = prepare(
        load_model(options.model, options.weights),
        load(options.members, data_dir=options.data_dir),
        budget=options.budget,
        public=others,
        defense=next(iter(basket_defenses(options.defense or ())), None),
        defenses=basket_defenses(() if options.defenses is None else options.defenses.split(",")),
        title=options.name or Path(options.model.rpartition(":")[0]).stem,
        seed=options.seed,
    )
    return UserAudit(exchange)
