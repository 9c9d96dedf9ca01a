"""What an audit of a recommender takes, and what it does not."""

from collections.abc import Mapping, Sequence
from typing import Any

from divulge.auditing.access import GRADIENTS
from divulge.defenses.recommenders import BASKET_DEFENSES, BasketDefense
from divulge.errors import BadInputError


def require_recommender(access: Sequence[str], given: Mapping[str, Any]) -> None:
    """See that users and their items are audited by what they share, and with nothing that would be ignored.

    Args:
        access: the releases that are audited.
        given: settings by name that belong to other audits, None where they were left out.

    Raises:
        BadInputError: another release, or one of these settings.
    """
    if tuple(access) != (GRADIENTS,):
        raise BadInputError(
            f"access: a table of users and items is audited by the updates that users share, got "
            f"{' and '.join(access)}. Say gradients, or give records with labels."
        )
    idle = [name for name, value in given.items() if value is not None]
    if idle:
        raise BadInputError(f"{', '.join(idle)}: not used in the audit of a recommender. Leave it out.")


def basket_defenses(named: Any) -> tuple[BasketDefense, ...]:
    """Defenses of a recommender's users: one or several, by name, by name and settings, or made already.

    Raises:
        BadInputError: no such defense, settings that it does not have, or a defense of something else.

    Example:
        >>> [one.name for one in basket_defenses("fake-items")]
        ['fake-items']
    """
    several = [named] if isinstance(named, (str, Mapping, BasketDefense)) or not isinstance(named, Sequence) else named
    return tuple(map(_made, several))


def _made(one: Any) -> BasketDefense:
    if isinstance(one, BasketDefense):
        return one
    if not isinstance(one, (str, Mapping)):
        raise BadInputError(
            f"defenses: expected those of a recommender's users, which are {', '.join(BASKET_DEFENSES.classes)}, got "
            f"{type(one).__name__}."
        )
    return BASKET_DEFENSES.make(one.strip() if isinstance(one, str) else one, where="defenses")
