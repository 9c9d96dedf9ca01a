"""A finding: one number about evidence, with its interval, its count and its control."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One scored number.

    Args:
        metric: what was measured, such as `AUC` or `TPR at 1% FPR`.
        value: the estimate.
        low: lower end of its 95 % interval.
        high: upper end.
        n: how many records stand behind it.
        control: the same number where there is nothing to find; None only where another finding of the same table
            carries it.
        adversary: `blind`, `adaptive` or `oracle` where a defense is involved, else None.
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    control: "Finding | None" = None
    adversary: str | None = None

    def __str__(self) -> str:
        text = f"{self.metric} {self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.n:,})"
        return f"{text}, control {self.control.value:.3f}" if self.control else text
