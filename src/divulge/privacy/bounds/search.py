"""From a test of one value to a bound."""

from collections.abc import Callable

HALVINGS = 24


def last_ruled_out(ruled_out: Callable[[float], bool]) -> float:
    """The largest value of at least 0 that a test rules out, given that it rules out all smaller ones; 0 if none.

    Example:
        >>> round(last_ruled_out(lambda value: value <= 3.7), 6)
        3.7
    """
    if not ruled_out(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while ruled_out(high):
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if ruled_out(middle) else (low, middle)
    return low
