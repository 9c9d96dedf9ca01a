"""Findings about gradients in plain words."""

from divulge.auditing.gradients.audit_grade import Grade
from divulge.auditing.gradients.audit_strongest import Rebuilt
from divulge.metrics import Estimate


def of_batch(batch: int) -> str:
    """What a client shares the gradient of.

    Example:
        >>> of_batch(1), of_batch(4)
        ('one record', 'a batch of 4 records')
    """
    return "one record" if batch == 1 else f"a batch of {batch} records"


def counted(share: float, records: int) -> str:
    """A share of some records as a count.

    Example:
        >>> counted(0.75, 16), counted(1.0, 8)
        ('12 of 16', 'all 8')
    """
    count = round(share * records)
    return f"all {records:,}" if count == records else f"{count:,} of {records:,}"


def decibels(one: Estimate) -> str:
    """A closeness with its interval.

    Example:
        >>> decibels(Estimate(31.2, 28.9, 40.0)), decibels(Estimate(150.0, 150.0, 150.0))
        ('31 [29, 40]', '150')
    """
    value, low, high = (f"{part:.0f}" for part in one)
    return value if low == high else f"{value} [{low}, {high}]"


def sentence(grade: Grade, batch: int, *, image: bool) -> str:
    """The finding for a reader who does not know what a gradient is good for."""
    who, what = "Whoever receives the gradient that", of_batch(batch)
    gives = "gives" if batch == 1 else "give"
    if grade.band == 4:
        how = "without a visible difference" if image else "to a thousandth of each column's range"
        them = "that record" if batch == 1 else "those records"
        return (
            f"{who} {what} {gives} this model can compute {them} exactly: "
            f"{counted(grade.exact.value, grade.records)} records were rebuilt {how}."
        )
    if grade.band >= 2:
        exact = f", {round(grade.exact.value * grade.records):,} of them exactly" if grade.exact.value else ""
        return (
            f"{who} {what} {gives} this model can rebuild {counted(grade.recognizable.value, grade.records)} records "
            f"well enough to recognize them{exact}. By chance, another record of the class would pass for "
            f"{counted(grade.by_chance.value, grade.records)}."
        )
    if grade.band == 1:
        return (
            f"What can be rebuilt from the gradient of {what} is nearer to the true records than to others of their "
            f"class, but few can be recognized: {counted(grade.recognizable.value, grade.records)}."
        )
    return (
        f"No attack tried here rebuilt records from the gradient of {what}: what came out is no nearer to them than to "
        "other records of their class. That is no proof of safety: a longer search or another attack may succeed."
    )


def strongest_attack(rebuilt: Rebuilt) -> str:
    """The attack that most of the reconstructions come from."""
    return max(dict.fromkeys(rebuilt.chosen), key=rebuilt.chosen.count)
