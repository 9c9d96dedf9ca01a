"""Which releases of a model are audited, and which defenses belong to which."""

from collections.abc import Mapping, Sequence
from typing import Any

from divulge.defenses import Defense
from divulge.errors import BadInputError

POSTERIORS, WEIGHTS, GRADIENTS = "posteriors", "weights", "gradients"
ACCESS = (POSTERIORS, WEIGHTS, GRADIENTS)
"""What others can be handed of a model, and an audit can measure."""


def releases(access: str | Sequence[str]) -> tuple[str, ...]:
    """The releases that are named, in the order of `ACCESS`; who has the weights has the posteriors as well.

    Args:
        access: one of `ACCESS`, several separated by commas, or a list of them.

    Raises:
        BadInputError: none, or an unknown one.

    Example:
        >>> releases("gradients, posteriors"), releases("weights")
        (('posteriors', 'gradients'), ('posteriors', 'weights'))
    """
    named = [one.strip() for one in (access.split(",") if isinstance(access, str) else access)]
    unknown = [one for one in named if one not in ACCESS]
    if unknown or not named:
        raise BadInputError(
            f"access: expected one of {', '.join(ACCESS)}, or several separated by commas, got "
            f"{', '.join(map(repr, unknown)) or 'nothing'}."
        )
    if WEIGHTS in named:
        named.append(POSTERIORS)
    return tuple(one for one in ACCESS if one in named)


def require_used(given: Mapping[str, Any], access: Sequence[str], *, by: str) -> None:
    """See that settings which the audit of one release alone uses are not given without it.

    Args:
        given: the settings by name, None where they were left out.
        access: the releases that are audited.
        by: the one whose audit uses them.

    Raises:
        BadInputError: one that would be ignored.
    """
    idle = [name for name, value in given.items() if value is not None]
    if idle and by not in access:
        raise BadInputError(
            f"{', '.join(idle)}: used where {by} are audited, and {' and '.join(access)} are. Add {by} to the access, "
            "or leave it out."
        )


def divided(
    defenses: Sequence[Defense] | None, access: Sequence[str]
) -> tuple[tuple[Defense, ...] | None, tuple[Defense, ...]]:
    """The defenses to try on posteriors, None for the usual ones, and those to try on gradients.

    Raises:
        BadInputError: a defense that acts on no release that is audited.
    """
    every = tuple(defenses or ())
    shared = tuple(one for one in every if one.in_sharing and GRADIENTS in access)
    rest = tuple(one for one in every if (one.in_response or one.in_training) and POSTERIORS in access)
    for one in every:
        if one not in shared and one not in rest:
            acts = "the gradients that a client shares" if one.in_sharing else "training or on answers"
            missing = GRADIENTS if one.in_sharing else POSTERIORS
            raise BadInputError(
                f"defenses: {one.name} acts on {acts}, and {' and '.join(access)} are audited. Add {missing} to the "
                "access, or leave it out."
            )
    return rest if rest or (defenses is not None and not shared) else None, shared
