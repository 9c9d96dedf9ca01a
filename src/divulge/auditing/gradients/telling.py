"""From what an audit of gradients found to a card, sections and words."""

import numpy as np

from divulge.attacks import ATTACKS
from divulge.auditing.facts import Block, Card, Section, Table, Text
from divulge.auditing.gradients import telling_defenses
from divulge.auditing.gradients.audit import Exchange, described
from divulge.auditing.gradients.audit_evidence import Evidence
from divulge.auditing.gradients.audit_grade import Grade, grade
from divulge.auditing.gradients.audit_steps import victims_of
from divulge.auditing.gradients.audit_strongest import Rebuilt, strongest
from divulge.auditing.gradients.telling_layers import Layers, layers
from divulge.auditing.gradients.telling_pictures import closeness, pictures
from divulge.auditing.gradients.telling_words import counted, decibels, of_batch, sentence, strongest_attack
from divulge.auditing.probes.base import Outcome
from divulge.defenses import DEFENSES
from divulge.metrics import Finding

QUESTION = "Can a client's records be rebuilt from the gradient it shares?"


def outcome(exchange: Exchange, evidence: Evidence) -> Outcome:
    """Everything the report says about gradients."""
    level = 1 - 0.05 / len(evidence.plain)
    grades = {batch: grade(one, seed=exchange.seed, confidence=level) for batch, one in evidence.plain.items()}
    worst = max(grades, key=lambda batch: (grades[batch].band, grades[batch].recognizable.value))
    head, rebuilt = grades[worst], evidence.plain[worst]
    score = layers(exchange.target.module, exchange.records.shape, widest=max(exchange.batch_sizes))  # type: ignore[arg-type]
    chosen = telling_defenses.recommended(exchange, evidence, grades) if evidence.defended else ""
    confidence = _confidence(exchange, head)
    advice = _advice(exchange, head, score, chosen)
    name = "records rebuilt exactly" if head.band == 4 else "records rebuilt recognizably"
    share = head.exact if head.band == 4 else head.recognizable
    control = Finding(name, *(head.exact_elsewhere if head.band == 4 else head.by_chance), n=head.records)
    card = Card(
        release="gradients",
        question=QUESTION,
        attack=strongest_attack(rebuilt),
        finding=Finding(name, *share, n=head.records, control=control),
        worst=1.0,
        unit="%",
        needed={
            "from each client": f"the gradient of {of_batch(worst)}",
            "time": f"{_seconds(rebuilt):.2g} s a client",
        },
        sentence=sentence(head, worst, image=exchange.records.is_image),
        band=head.band,
        confidence=confidence,
        advice=advice,
    )
    sections = [
        Section("What was rebuilt", "How near do rebuilt records come to the true ones?", _rebuilt(exchange, evidence)),
        Section("Where it leaks", "Which layers give a record away, and what would change that?", score.blocks),
    ]
    if evidence.defended:
        grid = telling_defenses.blocks(exchange, evidence, chosen=chosen)
        sections.append(
            Section("Defenses of gradients", "What does each defense leave to an adversary who knows it?", grid)
        )
    sections.append(Section("What to try next", "How would one find out more?", _next(exchange, evidence, head)))
    return Outcome(
        card=card,
        band=head.band,
        confidence=confidence,
        advice=advice,
        sections=sections,
        settings={**described(exchange), "gradient attacks that ran": ", ".join(_ran(evidence))},
        assumptions=_assumptions(exchange),
        not_tested=_not_tested(exchange, evidence),
        references=sorted({ATTACKS[name].source for name in _ran(evidence) if ATTACKS[name].source}),
        records=columns(exchange, evidence),
    )


def columns(exchange: Exchange, evidence: Evidence) -> dict[str, list[object]]:
    """Every attacked record with its scores, for export."""
    told: dict[str, list[object]] = {
        name: [] for name in ("record", "class", "batch size", "score", "mse", "exact", "recognizable", "attack")
    }
    for batch, one in evidence.plain.items():
        data = exchange.corpus.part(victims_of(batch))
        told["record"] += [data.id(row) for row in range(len(data))][: len(one) * batch]
        told["class"] += [data.classes[int(label)] for label in data.targets][: len(one) * batch]
        told["batch size"] += [batch] * (len(one) * batch)
        told["score"] += one.scores["psnr"].tolist()
        told["mse"] += one.scores["mse"].tolist()
        told["exact"] += one.scores["exact"].tolist()
        told["recognizable"] += one.scores["recognizable"].tolist()
        told["attack"] += [name for name in one.chosen for _ in range(batch)]
    return told


def _confidence(exchange: Exchange, head: Grade) -> str:
    share = head.exact if head.band == 4 else head.recognizable
    by_chance = head.exact_elsewhere if head.band == 4 else head.by_chance
    sizes = len(exchange.batch_sizes)
    widened = f", widened for choosing the worst of {sizes} batch sizes" if sizes > 1 else ""
    return (
        f"95 % interval {100 * share.low:.0f} to {100 * share.high:.0f} of 100{widened}; {head.records} records of "
        f"{head.clients} clients, each rebuilt by the attack that explains its gradient best, chosen without a look at "
        f"the truth. Median {head.closeness.value:.0f} dB. Control: held against another record of its class, "
        f"{counted(by_chance.value, head.records)} would count, median {head.elsewhere.value:.0f} dB."
    )


def _advice(exchange: Exchange, head: Grade, score: Layers, chosen: str) -> str:
    if chosen:
        return (
            f"Of the defenses tried, {chosen} left no more to recognize than chance does, even to the adversary tried "
            "who knows it. Train with it and measure the accuracy before relying on it, then repeat this audit on the "
            "trained weights."
        )
    if head.band == 0 and exchange.plan.name != "thorough":
        return "Repeat the audit with a larger budget: it searches longer, and this one found nothing."
    if head.band == 0:
        return (
            "Nothing found speaks against sharing gradients of this model. For a guarantee, clip and add noise at the "
            "client (dp-sgd), with a ledger."
        )
    if exchange.defenses:
        return (
            "No defense tried is shown to stop an adversary who knows it. Let nobody see the gradient of a single "
            "client (secure aggregation over many), or clip and add noise at the client, with a ledger."
        )
    if score.entrance:
        return (
            f"Do not share gradients of few records: layer {score.entrance} hands them over, and no training changes "
            "that. Add up many clients' gradients before anyone sees them (secure aggregation), or clip and add noise "
            "at the client, with a ledger."
        )
    return (
        "Do not let anyone see the gradient of a single client: add up many before they are read (secure aggregation), "
        "or clip and add noise at the client, with a ledger. Try defenses on this model with --defenses"
        f"{_names()}."
    )


def _names() -> str:
    known = [name for name, cls in DEFENSES.classes.items() if cls().in_sharing]
    return f" {','.join(known[:3])}" if known else ""


def _rebuilt(exchange: Exchange, evidence: Evidence) -> list[Block]:
    told: list[Block] = []
    for one in evidence.plain.values():
        told += pictures(exchange, one)
    told += [closeness(one) for one in evidence.plain.values()]
    return [*told, _attacks(exchange, evidence)]


def _attacks(exchange: Exchange, evidence: Evidence) -> Table:
    """Every attack on its own, beside what an attacker would choose."""
    rows: list[list[str | float | int | None]] = []
    for batch, one in evidence.plain.items():
        rows.append(_row("chosen for each client", batch, one, exchange, None))
        for name, tried in one.tried.items():
            if not tried.refused:
                alone = strongest(exchange, one.case, {name: tried})
                rows.append(_row(name, batch, alone, exchange, tried.seconds / tried.clients))
    return Table(
        title="Every attack that ran",
        columns=["attack", "batch", "exact", "recognizable", "median dB", "unexplained", "labels", "s"],
        rows=rows,
        note="Median dB with its 95 % interval; higher is worse. Unexplained: the share of the shared gradient that "
        "the reconstruction leaves over, which is all that an attacker sees of its quality, and what is chosen by. "
        "Labels: class numbers read right. s: seconds a client.",
    )


def _row(
    name: str, batch: int, one: Rebuilt, exchange: Exchange, seconds: float | None
) -> list[str | float | int | None]:
    found = grade(one, seed=exchange.seed)
    return [
        name,
        batch,
        f"{100 * found.exact.value:.0f} %",
        f"{100 * found.recognizable.value:.0f} %",
        decibels(found.closeness),
        f"{float(np.median(one.unexplained)):.2g}",
        "–" if found.labels is None else f"{100 * found.labels:.0f} %",
        None if seconds is None else f"{seconds:.2g}",
    ]


def _ran(evidence: Evidence) -> list[str]:
    every = [*evidence.plain.values(), *evidence.defended]
    return sorted({name for one in every for name, tried in one.tried.items() if not tried.refused})


def _seconds(one: Rebuilt) -> float:
    """What the attacks that were chosen took for a client, in the mean."""
    times = [one.tried[name].seconds / one.tried[name].clients for name in one.chosen if name in one.tried]
    return float(np.mean(times)) if times else 0.0


def _assumptions(exchange: Exchange) -> list[str]:
    told = [
        "The server is honest but curious: it sends the model as it is, and reads what comes back. One that changes "
        "the model to pry can learn more.",
        "It sees the gradient of one step of each client by itself, unencrypted and in full precision, and knows the "
        "model, the batch size, the loss (cross-entropy, the mean over the batch) and the number of classes.",
        f"The clients' model is in {'training' if exchange.training else 'evaluation'} mode, {exchange.mode}.",
        "The records given are like those that clients hold. Attackers were not told them.",
    ]
    if not exchange.records.is_image:
        told.append("The range of each column, over the records given, is public.")
    if "public" in exchange.corpus.parts:
        told.append("The adversary has other records of the same kind: the non-members given.")
    return told


def _not_tested(exchange: Exchange, evidence: Evidence) -> list[str]:
    told = []
    for batch in sorted(evidence.whole):
        told.append(
            f"Searches on {of_batch(batch)}: a closed form had rebuilt every batch already, and none was needed."
        )
    ran = _ran(evidence)
    every = [item for one in evidence.plain.values() for item in one.tried.items()]
    reasons = {name: tried.refused for name, tried in every if tried.refused and name not in ran}
    told += [f"{name}: {reason.rstrip('.')}." for name, reason in reasons.items()]
    return [
        *told,
        "Updates of several local steps, gradients of several rounds put together, and malicious servers.",
    ]


def _next(exchange: Exchange, evidence: Evidence, head: Grade) -> list[Block]:
    told = []
    if exchange.plan.name != "thorough" and not evidence.whole.issuperset(evidence.plain):
        larger = "standard" if exchange.plan.name == "quick" else "thorough"
        told.append(f"A longer search: --budget {larger}.")
    largest = max(exchange.batch_sizes)
    if head.band:
        sizes = f"{largest * 4},{largest * 16}"
        told.append(f"Larger batches, to see from where on nothing comes back: --batch-sizes {sizes}.")
    if not exchange.defenses and _names():
        told.append(f"Defenses, each against an adversary who knows it: --defenses{_names()}.")
    if exchange.defenses and head.band:
        told.append("The same defenses with other settings, from Python: divulge.audit(..., defenses=[...]).")
    told.append(
        "The same model at other points of its training: gradients of untrained and of trained weights give away "
        "different amounts."
    )
    return [Text(text) for text in told]
