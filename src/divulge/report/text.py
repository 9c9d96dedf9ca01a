"""The report in the terminal: the same story in ten lines."""

import re

from divulge.auditing.facts import BANDS, Card, Facts
from divulge.report.words import clean, finding

LINES = 10


def summary(facts: Facts) -> str:
    """Tell what was found in at most ten lines of plain text without control characters."""
    verdict = facts.verdict
    scale = "■" * (verdict.band + 1) + "□" * (len(BANDS) - verdict.band - 1)
    head = [
        f"{facts.title}, {facts.date}",
        f"Released: {facts.released}",
        f"Verdict: {scale} {BANDS[verdict.band]}",
        verdict.sentence,
        f"How sure: {verdict.confidence}",
    ]
    head += [f"Promise: {facts.promise}"] if facts.promise else []
    last = [f"Next: {verdict.advice}"]
    room = LINES - len(head) - len(last)
    cards = [f"- {card.question} {_found(card)}" for card in facts.cards]
    if len(cards) > room:
        cards = [*cards[: room - 1], f"- and {len(cards) - room + 1} more in the report"]
    return "\n".join(re.sub(r"\s*[\t\n]\s*", " ", clean(line)).strip() for line in [*head, *cards, *last])


def _found(card: Card) -> str:
    if card.finding is None:
        return f"did not run: {card.sentence}"
    return f"{card.finding.metric} {finding(card.finding, card.unit)}"
