"""Membership findings in plain words."""

from divulge.metrics import Estimate, Finding

RATES = (0.001, 0.01, 0.1)


def headline_rate(nonmembers: int) -> float | None:
    """The lowest false positive rate with ten non-members or more at it; 10 % with fewer; None below ten in all."""
    for rate in RATES:
        if rate * nonmembers >= 10:
            return rate
    return 0.1 if nonmembers >= 10 else None


def band(auc: Estimate, rate: float | None, tpr: Estimate | None, control: dict[str, Finding]) -> int:
    """How bad a membership finding is, an index into `divulge.auditing.facts.BANDS`.

    Nothing counts unless the lower end of its interval exceeds both chance and the upper end of the control's. Beyond
    that: `exact` where the AUC is surely 0.99 or more; `strong` from AUC 0.75 or 20 times the chance rate of true
    positives; `moderate` from AUC 0.6 or 5 times.
    """
    null_auc, null_tpr = control.get("AUC"), control.get("TPR")
    seen = auc.low > max(0.5, null_auc.high if null_auc else 0.5)
    lift = 0.0
    if tpr is not None and rate is not None and tpr.low > max(rate, null_tpr.high if null_tpr else rate):
        seen, lift = True, tpr.value / rate
    if not seen:
        return 0
    if auc.low >= 0.99:
        return 4
    if auc.value >= 0.75 or lift >= 20:
        return 3
    return 2 if auc.value >= 0.6 or lift >= 5 else 1


def share(value: float) -> str:
    """A rate as a person says it, out of 100 or out of 1,000.

    Example:
        >>> share(0.31), share(0.004), share(0.0)
        ('31 of every 100', '4 of every 1,000', '0 of every 1,000')
    """
    return f"{100 * value:.0f} of every 100" if value >= 0.0995 else f"{1000 * value:.0f} of every 1,000"


def sentence(level: int, *, auc: Estimate, rate: float | None, tpr: Estimate | None) -> str:
    """The finding for a reader who does not know what a ROC curve is."""
    if level == 0:
        return (
            "No attack tried here told training records from other records better than guessing. That is no proof of "
            "safety: a larger budget or another attack may still find something."
        )
    if tpr is None or rate is None or tpr.low <= rate:
        return (
            f"Shown one training record and one outsider, someone who can query this model picks the training record "
            f"{share(auc.value)} times. A guess without the model would be right 50 times."
        )
    return (
        f"Someone who can query this model can pick out about {share(tpr.value)} training records while wrongly "
        f"accusing 1 in {round(1 / rate):,} outsiders. A guess without the model would catch {share(rate)}."
    )


def advice(level: int, *, gap: float, shadows: int) -> str:
    """The one thing to do next.

    Args:
        level: the band.
        gap: accuracy on members minus accuracy on non-members.
        shadows: shadow models the audit trained.
    """
    if level == 0 and not shadows:
        return "Repeat the audit with --budget standard: it trains shadow models and finds what this one cannot."
    if level == 0:
        return (
            "Nothing found speaks against giving out these posteriors. Before releasing weights, repeat with "
            "--budget thorough."
        )
    if gap > 0.1:
        return (
            f"The model is {100 * gap:.0f} points more accurate on its training records than on others. Narrow that "
            "gap (early stopping, dropout, weight decay, more data), then repeat the audit with the defense named, so "
            "that the adversary knows it too. For a guarantee, train with differential privacy."
        )
    return (
        "The accuracy gap is small, so stopping earlier will not help much. Train with differential privacy, or do not "
        "give posteriors to strangers, and repeat the audit."
    )
