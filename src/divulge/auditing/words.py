"""Membership findings in plain words."""

from typing import Literal

from divulge.metrics import Estimate, clopper_pearson

RATES = (0.001, 0.01, 0.1)

Doubt = Literal["", "kind", "few"]
"""Why a finding above guessing counts for nothing: see `divulge.auditing.telling.Headline`."""


def headline_rate(nonmembers: int) -> float | None:
    """The lowest false positive rate with ten non-members or more at it; 10 % with fewer; None below ten in all."""
    for rate in RATES:
        if rate * nonmembers >= 10:
            return rate
    return 0.1 if nonmembers >= 10 else None


def chance(rate: float, nonmembers: int, *, confidence: float) -> float:
    """The highest true positive rate that guessing is likely to reach where `rate` of the non-members are flagged.

    The threshold is set by a few non-members, so its true false positive rate may be higher than the one seen: at most
    this, the upper end of the exact interval, at that confidence.
    """
    return float(clopper_pearson(int(rate * nonmembers + 1e-9), nonmembers, confidence=confidence)[1])


def band(auc: Estimate, lift: float, *, seen: bool) -> int:
    """How bad a membership finding is, an index into `divulge.auditing.facts.BANDS`.

    Nothing counts unless it was `seen`: surely above guessing and above the control. Beyond that: `exact` where the AUC
    is surely 0.99 or more; `strong` from AUC 0.75 or 20 times the chance rate of true positives; `moderate` from AUC
    0.6 or 5 times.
    """
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


def sentence(level: int, *, auc: Estimate, rate: float | None, tpr: Estimate | None, doubt: Doubt) -> str:
    """The finding for a reader who does not know what a ROC curve is.

    Args:
        level: the band.
        auc: of the strongest attack.
        rate: the false positive rate of `tpr`.
        tpr: its true positive rate, None where it does not surely beat guessing.
        doubt: why it counts for nothing, if it does not although it is above guessing.
    """
    if doubt == "few":
        return (
            "An attack did better than guessing, but not surely better than where there is nothing to find. With so "
            "few records this may be luck."
        )
    if doubt == "kind":
        return (
            "Training records and other records can be told apart, but just as well by a model that never saw them: "
            "the two differ in kind. So nothing can be said about what this model gives away."
        )
    if level == 0:
        return (
            "No attack tried here told training records from other records better than guessing. That is no proof of "
            "safety: a larger budget or another attack may still find something."
        )
    if tpr is None or rate is None:
        return (
            f"Shown one training record and one outsider, someone who can query this model picks the training record "
            f"{share(auc.value)} times. A guess without the model would be right 50 times."
        )
    return (
        f"Someone who can query this model can pick out about {share(tpr.value)} training records while wrongly "
        f"accusing 1 in {round(1 / rate):,} outsiders. A guess without the model would catch {share(rate)}."
    )


def advice(
    level: int,
    doubt: Doubt,
    *,
    gap: float,
    shadows: int,
    trainable: bool,
    budget: str,
    alike: bool,
    private: bool = False,
) -> str:
    """The one thing to do next.

    Args:
        level: the band.
        doubt: why a finding above guessing counts for nothing.
        gap: accuracy on members minus accuracy on non-members.
        shadows: shadow models the audit trained.
        trainable: whether a larger budget would train some, or more.
        budget: what the audit was allowed.
        alike: whether members and non-members are of one kind, as far as can be told.
        private: whether a ledger says that it was trained with differential privacy.
    """
    if doubt == "few":
        return "Repeat the audit with more members and non-members, or with the budget thorough."
    if doubt == "kind" or not alike:
        return (
            "Repeat the audit with non-members that were drawn as the members were, for instance records held out of "
            "the training set at random. Until then, read no finding as the model's doing."
        )
    if level == 0 and not shadows and trainable:
        return "Repeat the audit with the budget standard: it trains shadow models and finds what this one cannot."
    if level == 0 and not shadows:
        return (
            "Audit the model itself, as a torch module or a scikit-learn classifier, where that is possible: the "
            "strongest attacks train models of its kind, which answers alone do not allow."
        )
    if level == 0 and budget != "thorough":
        return (
            "Nothing found speaks against giving out these posteriors. Before releasing weights, repeat with the "
            "budget thorough."
        )
    if level == 0 and private:
        return (
            "Nothing found speaks against giving out this model. Its guarantee is the ledger's epsilon, which holds "
            "against attacks that nobody has tried: see What epsilon promises."
        )
    if level == 0:
        return (
            "Nothing found speaks against giving out these posteriors. For a guarantee, train with differential "
            "privacy."
        )
    if private:
        return (
            "What was found is within what the ledger's epsilon allows: see What epsilon promises. If that is too "
            "much, train again with a smaller epsilon: more noise, or fewer steps."
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
