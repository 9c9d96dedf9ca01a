"""What was audited and with which settings, in words."""

from dataclasses import fields
from importlib.metadata import version

import torch

from divulge.auditing.access import GRADIENTS, POSTERIORS, WEIGHTS
from divulge.auditing.facts import BANDS
from divulge.auditing.gradients.audit import Exchange
from divulge.auditing.subject import Subject
from divulge.runs.provenance import machine


def released(subject: Subject | None, exchange: Exchange | None) -> str:
    """What others get to see."""
    seen = [POSTERIORS] if subject else []
    seen += [WEIGHTS] if subject and subject.weights else []
    seen += [GRADIENTS] if exchange else []
    return ", ".join([*seen[:-2], " and ".join(seen[-2:])])


def described(subject: Subject | None, exchange: Exchange | None) -> dict[str, str]:
    """The settings of the whole audit, label to text."""
    asked = subject or exchange
    assert asked is not None
    settings = {
        "model": f"{asked.target.kind}"
        + (f", {asked.target.parameters:,} parameters" if asked.target.parameters else ""),
    }
    if subject:
        settings["records"] = _records(subject)
    settings |= {
        "record shape": " x ".join(map(str, asked.corpus.data.shape)),
        "classes": str(asked.corpus.data.num_classes),
        "budget": subject.budget.name if subject else exchange.plan.name if exchange else "",
        "seed": str(asked.seed),
    }
    if subject:
        settings |= {
            "recipe of shadow models": ", ".join(
                f"{item.name} {getattr(subject.recipe, item.name)}" for item in fields(subject.recipe)
            ),
            "defense known to the adversary": str(subject.trained_under or "none"),
        }
    return settings | {
        "divulge": version("divulge"),
        "torch": torch.__version__,
        "machine": ", ".join(f"{key} {value}" for key, value in machine().items() if key not in ("torch",)),
        "verdict bands": ", ".join(BANDS),
    }


def _records(subject: Subject) -> str:
    counts = ", ".join(f"{len(rows):,} {name}" for name, rows in subject.corpus.parts.items())
    asked = sum(len(rows) for rows in subject.corpus.parts.values())
    return f"{counts}, of {len(subject.corpus.data):,} given" if asked < len(subject.corpus.data) else counts
