"""Which attack is strongest against which defense, and what an adversary does who knows the defense: one table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Adversaries:
    """The adversaries one defense is measured against.

    Args:
        attacks: the membership attacks worth running against it, by name.
        adaptive: what knowing the mechanism changes.
        oracle: what knowing its randomness adds; empty where there is none after release.
    """

    attacks: tuple[str, ...]
    adaptive: str
    oracle: str = ""


STRONG = ("shrinkage", "lira", "rmia", "calibrated", "modified-entropy", "loss")

TABLE: dict[str, Adversaries] = {
    "dropout": Adversaries(STRONG, "trains its shadow models with the same dropout and early stopping"),
    "dp-sgd": Adversaries(STRONG, "trains its shadow models with the same clipping and noise"),
    "top-k": Adversaries(STRONG, "puts its shadow models' answers through the same coarsening"),
    "rounding": Adversaries(STRONG, "puts its shadow models' answers through the same rounding"),
    "label-only": Adversaries(
        ("gap", *STRONG), "compares the label with those its shadow models give inside and outside"
    ),
}
"""Rows by the defense's name; a defense without a row meets every attack in `STRONG`."""


def adversaries(defense: str) -> Adversaries:
    """The row of one defense."""
    return TABLE.get(defense, Adversaries(STRONG, "puts its shadow models through the same defense"))
