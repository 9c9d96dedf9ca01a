"""Every membership score that trains nothing, together: 50,000 records, 64 shadow models, 10 classes."""

from statistics import median

import numpy as np

from benchmarks.measure import Row, seconds
from divulge.attacks import ATTACKS
from divulge.attacks.membership import MembershipAttack, Signals, View, assignment

LIMIT = 3.0


def scoring(*, candidates: int = 50_000, population: int = 5_000, shadows: int = 64, repeats: int = 5) -> list[Row]:
    """Wall time of all scores from logits on, computing confidences included."""
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=candidates + population)
    answers = rng.standard_normal((shadows + 1, candidates + population, 10), dtype=np.float32)
    answers[:, np.arange(len(labels)), labels] += 3
    members = np.zeros((shadows, len(labels)), dtype=bool)
    members[:, :candidates] = assignment(candidates, shadows, seed=0)
    attacks = [cls() for cls in ATTACKS.kind_of(MembershipAttack).values() if not cls.trains]

    def signals(rows: slice) -> Signals:
        return Signals(labels[rows], answers[0, rows], answers[1:, rows], members[:, rows])

    def score() -> None:
        view = View(signals(slice(candidates)), population=signals(slice(candidates, None)))
        for attack in attacks:
            attack.run(view)

    score()
    times = [seconds(score) for _ in range(repeats)]
    names = ", ".join(attack.name for attack in attacks)
    return [
        Row(
            f"{len(attacks)} scores of {candidates:,} records x {shadows} shadows x 10 classes",
            ours_seconds=median(times),
            target=f"under {LIMIT:g} s",
            met=median(times) < LIMIT,
            note=f"{min(times):.2f} to {max(times):.2f} s; population of {population:,}; {names}",
            repeats=repeats,
        )
    ]
