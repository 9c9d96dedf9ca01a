"""From what an audit of a recommender found to a card, sections and words."""

import datetime
from collections.abc import Sequence
from importlib.metadata import version

import torch

from divulge.attacks import ATTACKS
from divulge.auditing.facts import BANDS, Block, Card, Facts, Section, Text, Verdict
from divulge.auditing.recommenders import telling_defenses
from divulge.auditing.recommenders.evidence import Case, gather
from divulge.auditing.recommenders.exchange import UserExchange
from divulge.auditing.recommenders.grading import Grade, grade
from divulge.auditing.recommenders.telling_users import attacks, columns, users
from divulge.defenses.recommenders.base import Undefended
from divulge.metrics import Finding
from divulge.runs.provenance import machine

QUESTION = "Can a user's items be read out of the update that the user shares?"


def audit(exchange: UserExchange, *, command: str) -> Facts:
    """Attack the users and put what was found together, with the declared defense's worst adversary as the verdict."""
    cases = gather(exchange)
    own = [case for case in cases if case.defense.label == exchange.declared.label and case.adversary != "oracle"]
    grades = {id(case): grade(case, seed=exchange.seed) for case in cases}
    head = max(own, key=lambda case: (grades[id(case)].band, grades[id(case)].f1.value))
    found = grades[id(head)]
    chosen = telling_defenses.recommended(exchange, cases, grades, found.band)
    share = found.whole if found.band == 4 else found.f1
    metric = "baskets named without an error" if found.band == 4 else "F1 of the items named"
    nothing = found.whole_guessed if found.band == 4 else found.guessed
    card = Card(
        release="gradients",
        question=QUESTION,
        attack=head.strongest,
        finding=Finding(
            metric,
            *share,
            n=found.users,
            control=Finding(metric, *nothing, n=found.users),
            adversary=head.adversary,
        ),
        worst=1.0,
        unit="%",
        needed=_needed(head),
        sentence=sentence(exchange, head, found),
        band=found.band,
    )
    sections = [
        Section("What was read", "Which items of each user came out?", users(exchange, head), exports=True),
        Section("Every attack", "Which parts of an update give a basket away?", attacks(exchange, own)),
    ]
    if len(cases) > 1:
        blocks = telling_defenses.blocks(exchange, cases, grades, chosen=chosen)
        sections.append(
            Section("Defenses of updates", "What does each defense leave to an adversary who knows it?", blocks)
        )
    promises = telling_defenses.promises(exchange)
    if promises:
        sections.append(
            Section("What epsilon promises", "What does the noise of each user promise, whoever attacks?", promises)
        )
    sections.append(Section("What to try next", "How would one find out more?", _next(exchange)))
    ran = sorted({name for case in cases for name, one in case.tried.items() if not one.refused})
    return Facts(
        title=exchange.title,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        released=f"gradients of a recommender ({exchange.kind})",
        verdict=Verdict(
            found.band, card.sentence, _confidence(exchange, head, found), _advice(exchange, found, chosen)
        ),
        cards=[card],
        sections=sections,
        settings=_settings(exchange, ran),
        assumptions=_assumptions(exchange),
        not_tested=_not_tested(cases),
        references=sorted({source for name in ran if (source := getattr(ATTACKS[name], "source", ""))} | {MULTINOMIAL}),
        command=command,
        records=columns(exchange, head),
    )


MULTINOMIAL = "Liang et al. 2018, arXiv 1802.05814"


def sentence(exchange: UserExchange, case: Case, found: Grade) -> str:
    """The finding for a reader who does not know what a gradient is good for, with the adversary by name."""
    alone = case.defense.summed == 1
    what = "the update that one user shares" if alone else f"the sum of {case.defense.summed} users' updates"
    defended = "" if isinstance(case.defense, Undefended) else f" under {case.defense.label}"
    knows = {"blind": ", without knowing of it", "adaptive": ", by the adaptive adversary, who knows of it"}
    who = f"Whoever receives {what} of this recommender{defended} can"
    how = f" ({case.strongest}{knows.get(case.adversary or '', '')})"
    whose = "that user's" if alone else "each user's"
    if found.band == 4:
        count = round(found.whole.value * found.users)
        all_of = f"all {count:,} users" if count == found.users else f"{count:,} of {found.users:,} users"
        return f"{who} read {whose} whole list of items{how}: those of {all_of} came out without an error."
    if found.band >= 2:
        return (
            f"{who} name {_of_100(found.recall.value)} of 100 items of a user, and {_of_100(found.precision.value)} of "
            f"100 items named are right{how}. Naming the most popular items finds {_of_100(found.guessed.value)}."
        )
    if found.band == 1:
        return (
            f"{who} name items of a user a little better than by popularity{how}: {_of_100(found.recall.value)} of 100 "
            f"are found, against {_of_100(found.guessed.value)}."
        )
    return (
        f"No attack tried here reads items of a user out of {what}{defended} better than naming the most popular ones "
        "does. That is no proof of safety: another attack may succeed."
    )


def _needed(case: Case) -> dict[str, str]:
    each = "one update" if case.defense.summed == 1 else f"the sum of {case.defense.summed} updates"
    asked = getattr(ATTACKS.make(case.strongest), "each", 1)
    return {
        "from each user": each if asked == 1 else f"{asked} updates with the same weights",
        "computing time": f"{1000 * case.best.seconds:.1f} ms a user",
    }


def _confidence(exchange: UserExchange, case: Case, found: Grade) -> str:
    share, what = (found.whole, "Whole baskets") if found.band == 4 else (found.f1, "F1")
    claimed = int(case.best.claimed.sum())
    sure = f" The attack itself claims {claimed:,} of {len(case.best.claimed):,} to be exact, by their own equations."
    return (
        f"{what}: {_of_100(share.value)} of 100, 95 % interval {_of_100(share.low)} to {_of_100(share.high)}; "
        f"{found.users:,} of {len(exchange.users):,} users, chosen at random. Precision "
        f"{_of_100(found.precision.value)} %, recall {_of_100(found.recall.value)} %. Control: as many of the most "
        f"popular items, named without the update, reach an F1 of {_of_100(found.guessed.value)} %."
        f"{sure if claimed else ''}"
    )


def _advice(exchange: UserExchange, found: Grade, chosen: str) -> str:
    if chosen:
        return (
            f"Of the defenses tried, {chosen} left no more than the popularity of items tells, even to the adversary "
            "tried who knows it. Train with it and measure what recommendations are worth before relying on it."
        )
    if found.band <= 1:
        return (
            "Nothing found speaks against sharing updates this way. For a guarantee, clip and add noise for each user "
            "(user-dp), with a ledger."
        )
    if exchange.defenses:
        return (
            "No defense tried is shown to stop an adversary who knows it. Let nobody see less than the sum of many "
            "users' updates, clipped and with noise (user-dp with users=...), with a ledger."
        )
    return (
        "Let nobody see the update of a single user: add up those of many under encryption, each clipped and with "
        "noise (user-dp), with a ledger. Try defenses on this model with --defenses user-dp,fake-items."
    )


def _next(exchange: UserExchange) -> list[Block]:
    told = []
    if exchange.plan.name != "thorough":
        larger = "standard" if exchange.plan.name == "quick" else "thorough"
        told.append(f"More users, and searches where no closed form succeeds: --budget {larger}.")
    if not exchange.defenses:
        told.append(
            "Defenses, each against an adversary who knows it: --defenses user-dp,fake-items,sampled-negatives,"
            "basket-bottleneck,secure-sum."
        )
    told.append("What each defense costs in recommendations, on public data: divulge run fedvae-ml1m --scale quick.")
    return [Text(text) for text in told]


def _settings(exchange: UserExchange, ran: Sequence[str]) -> dict[str, str]:
    parameters = sum(p.numel() for p in exchange.network.parameters())
    return {
        "model": f"{exchange.kind}, {parameters:,} parameters",
        "users": f"{len(exchange.victims):,} attacked, of {len(exchange.users):,} given",
        "items": f"{exchange.items:,}",
        "budget": exchange.plan.name,
        "seed": str(exchange.seed),
        "defense of the users": exchange.declared.label,
        "defenses tried": ", ".join(one.label for one in exchange.defenses) or "none",
        "attacks that ran": ", ".join(ran),
        "divulge": version("divulge"),
        "torch": torch.__version__,
        "machine": ", ".join(f"{key} {value}" for key, value in machine().items() if key != "torch"),
        "verdict bands": ", ".join(BANDS),
    }


def _assumptions(exchange: UserExchange) -> list[str]:
    told = [
        "The server is honest but curious: it sends the model as it is, and reads what comes back.",
        "Each user shares the gradient of one step on the own basket in training mode, dropout and whatever else the "
        "model draws on, and the server knows the model and sees that update in full precision.",
        "The loss is the multinomial one, minus the sum of the log-shares of a user's items in the softmax over all"
        + (", without the divergence that the model returns besides its logits." if exchange.several else "."),
        "Every pair of the table counts as an item of the user, whatever its rating.",
    ]
    if exchange.public is not None:
        told.append(f"The adversary knows the baskets of {len(exchange.public):,} other users: the non-members given.")
    return told


def _not_tested(cases: Sequence[Case]) -> list[str]:
    reasons = {
        name: one.refused
        for case in cases
        for name, one in case.tried.items()
        if one.refused and case.adversary is None
    }
    return [
        *(f"{name}: {reason.rstrip('.')}." for name, reason in reasons.items()),
        "What a defense costs in recommendations, which takes a federated training under it.",
        "Updates of several local steps, and servers that change the model to pry.",
        "What answers and weights give away: this audit asked for gradients only (--access).",
        "Attacks that did not exist when this was written. A finding of nothing is no proof.",
    ]


def _of_100(share: float) -> str:
    return f"{100 * share:.0f}"
