"""Which attacks are worth running against which defense of baskets, the strongest first: one table."""

ALONE = ("basket-closed-form", "output-bias", "encoder-columns")
TOGETHER = ("basket-separation", "output-bias", "encoder-columns")

TABLE: dict[str, tuple[str, ...]] = {
    "none": ALONE,
    "basket-bottleneck": ALONE,
    "sampled-negatives": ALONE,
    "fake-items": ("basket-rounds", *ALONE),
    "user-dp": ("basket-rounds", *ALONE),
    "secure-sum": TOGETHER,
}
"""Attacks by the defense's name."""

SEARCHES = ("basket-noise-restoring", "basket-inverting-gradients")
"""What is tried where no closed form claims every basket."""


def attacks_on(defense: str, *, summed: bool) -> tuple[str, ...]:
    """The attacks on one defense; one without a row meets those that fit what is seen."""
    return TOGETHER if summed else TABLE.get(defense, ALONE)
