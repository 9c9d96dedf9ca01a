"""Which gradient attacks are worth running against which defense, and what who knows the defense does: one table."""

from divulge.auditing.adversaries import Adversaries

CLOSED = ("first-layer", "active-neurons", "spear", "peel", "gauss-newton")
"""Closed forms and solvers, which give a record exactly or not at all."""
SEARCHES = ("bias-anchored", "inverting-gradients", "inverting-gradients-modern", "dlg", "gradient-search")

TABLE: dict[str, Adversaries] = {
    "gradient-noise": Adversaries(
        (*SEARCHES, "first-layer"),
        "matches by the angle or the likelihood of the noise, beside a prior that weighs what it does in nats",
        "subtracts the noise and attacks what is left as if nothing had been added",
    ),
    "gradient-clipping": Adversaries(
        (*CLOSED, *SEARCHES), "compares directions alone, or solves for the scale; closed forms divide it out"
    ),
    "gradient-pruning": Adversaries(
        (*SEARCHES, *CLOSED), "compares the entries that survived and takes a zero for unknown, not for small"
    ),
    "gradient-sign": Adversaries(
        SEARCHES, "asks of a guess that its gradient has the signs that were shared, and no more"
    ),
    "gradient-quantization": Adversaries(
        (*SEARCHES, *CLOSED),
        "forgives a guess up to half a step in each entry",
        "subtracts what stochastic rounding shifted each entry by",
    ),
    "client-dp": Adversaries(
        (*SEARCHES, "first-layer"),
        "matches by the angle, or by the likelihood of the noise at the best scale, beside a prior",
        "subtracts the noise, which leaves a gradient that was clipped",
    ),
    "soteria": Adversaries(
        ("peel", "gauss-newton", "bias-anchored", "inverting-gradients", "dlg", "first-layer"),
        "leaves the pruned columns out, reads the others and the signal exactly, and solves the layers below",
        "also knows which columns each record of a batch had pruned",
    ),
    "precode": Adversaries(
        ("precode-closed-form", "peel", "gauss-newton", "bias-anchored", "noise-restoring", "inverting-gradients"),
        "leaves out what lies behind the draw, or searches for the noise too; closed forms and solvers need neither",
        "plays the client again under the noise that was drawn",
    ),
    "ppp": Adversaries(
        ("precode-closed-form", "bias-anchored", "noise-restoring", "inverting-gradients", "peel", "gauss-newton"),
        "leaves out what lies behind the draw and matches the rest by the angle or the likelihood of the noise on it",
        "takes the noise on the early gradients back, and plays the client again under that of the code",
    ),
    "cvb": Adversaries(
        ("noise-restoring", "inverting-gradients", "bias-anchored", "gauss-newton"),
        "leaves out what lies behind the draw, or searches for the noise too",
        "plays the client again under the noise that was drawn",
    ),
    "gradient-dropout": Adversaries(
        ("first-layer", "dropout-inversion", "peel", "gauss-newton", "bias-anchored", "inverting-gradients"),
        "searches for the masks too, or reads them off the zeros; takes a zero for unknown",
        "plays the client again under the masks that were drawn",
    ),
}
"""Rows by the defense's name."""


def gradient_adversaries(defense: str) -> Adversaries:
    """The row of one defense; one without a row meets every attack, adapted by what the defense says of itself.

    Example:
        >>> gradient_adversaries("soteria").attacks[0]
        'peel'
    """
    return TABLE.get(
        defense,
        Adversaries(
            (*CLOSED, *SEARCHES),
            "leaves out what the defense withholds and compares the rest as far as it can be believed",
            "takes back what the defense drew",
        ),
    )
