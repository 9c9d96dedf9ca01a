"""Whether somebody who knows the people would name a drawn face: by photographs that the attacked model never saw."""

from dataclasses import dataclass

import torch
from torch import Tensor

from divulge.errors import BadInputError
from divulge.metrics.intervals import Estimate, clopper_pearson
from divulge.metrics.nearest import correlation


@dataclass(frozen=True, eq=False)
class Recognition:
    """How a recognizer names drawings.

    Args:
        rank: of the right class among all, 0 for named first, int64 `(k,)`; classes that are as close count as closer.
        targets: the right classes `(k,)`.
        classes: how many there are to name.
    """

    rank: Tensor
    targets: Tensor
    classes: int

    @property
    def people(self) -> int:
        """How many different classes were drawn; several drawings of one are no independent evidence."""
        return len(self.targets.unique())

    def top(self, count: int) -> Estimate:
        """Share of drawings whose class is among the first `count`, with the interval that so many people allow."""
        share = float((self.rank < count).double().mean())
        low, high = clopper_pearson(share * self.people, self.people)
        return Estimate(share, float(low), float(high))

    def chance(self, count: int) -> float:
        """The same share for a recognizer that guesses."""
        return min(1.0, count / self.classes)


def recognize(drawings: Tensor, targets: Tensor, photographs: Tensor, people: Tensor) -> Recognition:
    """Name each drawing by the photograph that correlates with it most; one that is blank names nobody.

    Args:
        drawings: `(k, *shape)`.
        targets: whom each is meant to show `(k,)`.
        photographs: `(n, *shape)`, which the attacked model was not trained on.
        people: whom each shows `(n,)`, every one of `targets` among them.

    Raises:
        BadInputError: no drawing, NaN, drawings and targets of different numbers, or somebody of whom there is no
            photograph.

    Example:
        >>> photographs = torch.eye(3)
        >>> recognize(photographs[:2] + 0.1, torch.tensor([0, 1]), photographs, torch.tensor([0, 1, 2])).rank.tolist()
        [0, 0]
    """
    if len(drawings) == 0 or targets.shape != drawings.shape[:1] or not drawings.isfinite().all():
        raise BadInputError(
            f"recognize: expected one finite drawing or more and a class for each, got {len(drawings)} drawings and "
            f"targets of shape {tuple(targets.shape)}."
        )
    return named(correlation(drawings, photographs), targets, people)


def named(alike: Tensor, targets: Tensor, people: Tensor) -> Recognition:
    """Name each drawing by the photograph that it is most alike to.

    Args:
        alike: of drawings and photographs `(k, n)`, larger for closer.
        targets: whom each drawing is meant to show `(k,)`.
        people: whom each photograph shows `(n,)`, every one of `targets` among them.

    Raises:
        BadInputError: somebody of whom there is no photograph, or likeness that is not finite.
    """
    if not alike.isfinite().all():
        raise BadInputError("recognize: a drawing or a photograph holds NaN or infinity, and is like nothing.")
    known = people.unique()
    if missing := sorted(set(targets.tolist()) - set(known.tolist())):
        raise BadInputError(f"recognize: no photograph of class {missing[0]}. Hold some records of every class back.")
    closeness = torch.stack([alike[:, people == person].amax(dim=1) for person in known], dim=1)
    place = torch.searchsorted(known, targets)
    own = closeness.gather(1, place[:, None])
    return Recognition((closeness >= own).sum(dim=1) - 1, targets, len(known))
