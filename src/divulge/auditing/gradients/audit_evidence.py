"""What an audit of gradients found: the strongest reconstruction of each client's batch, and what it is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from divulge.attacks.gradients import GradientAttack
from divulge.attacks.gradients.first_layer import FirstLayer
from divulge.attacks.gradients.gauss_newton import GaussNewton
from divulge.attacks.gradients.search import Search
from divulge.auditing.gradients import scoring
from divulge.auditing.gradients.attempt import ADVERSARIES, Adversary, Attempt
from divulge.auditing.gradients.audit import Exchange
from divulge.auditing.gradients.audit_plan import STAGES, searches
from divulge.auditing.gradients.audit_steps import Pricing, Trying, others_of, price, pursue, victims_of
from divulge.defenses import Defense
from divulge.runs.graph import execute
from divulge.runs.step import Artifact, Step

CLEAR = 1e-4
"""A batch that leaves less of the shared gradient unexplained counts as found, and nobody searches further."""
CHUNK = 8
"""Clients that one step of a search, or of what takes as long, takes on."""
GRAY = 1 / 510
"""Half a gray level of eight bits: pixels within it are the same picture."""
SAME = 1e-3
"""Within this share of a column's range a value of a table is the same."""
NEAR = 0.05
"""Within this share it is right for most purposes."""
MOSTLY = 0.9
"""Share of a row's columns that must be right for it to be recognizable."""
SIMILAR = 0.6
"""Structural similarity from which a picture is recognizable, as in Scheliga et al. 2022 (arXiv 2108.04725)."""
PEAK = 20.0
"""Decibels from which one too small for that measure is."""
POOL = 2_000
"""At most so many of the records given are compared with what was rebuilt."""


@dataclass(frozen=True)
class Case:
    """One adversary of one defense, on clients with batches of one size.

    Args:
        batch: records that each client has.
        clients: how many of the clients are attacked.
        defense: which; the base class for none.
        adversary: what the attacker knows of it.
    """

    batch: int
    clients: int
    defense: Defense = field(default_factory=Defense)
    adversary: Adversary = "blind"


@dataclass(frozen=True, eq=False)
class Tried:
    """One attack on the clients of one case.

    Args:
        artifacts: what its steps left, in the order of the clients.
        seconds: that the attack took.
    """

    artifacts: tuple[Artifact, ...]
    seconds: float

    @property
    def refused(self) -> str:
        """Why it could not be run, in words; empty if it could."""
        return next((str(one.facts["refused"]) for one in self.artifacts if "refused" in one.facts), "")

    def array(self, name: str) -> np.ndarray:
        """An array of all clients."""
        return np.concatenate([np.asarray(one.arrays[name]) for one in self.artifacts])

    def has(self, name: str) -> bool:
        """Whether the attack gave that array."""
        return all(name in one.arrays for one in self.artifacts)

    @property
    def clients(self) -> int:
        """How many clients it was run on."""
        return sum(len(one.arrays["found"]) for one in self.artifacts)

    def claims(self) -> np.ndarray:
        """Whose records it surely has, by what an attacker can see, bool `(clients,)`.

        Those whose replayed gradient is the shared one; and batches of which it gives some records and leaves out the
        rest, as only attacks do that tell a record from a mixture.
        """
        found = self.array("found")
        return (self.array("unexplained") < CLEAR) | (found.any(axis=1) & ~found.all(axis=1))


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """The strongest reconstruction of each client of a case, chosen by what an attacker can see.

    Args:
        case: which.
        tried: every attack that was run, by name, refusals among them.
        chosen: the name of the attack that each client's comes from.
        records: float32 `(clients, batch, *shape)`, in the order of the true ones.
        found: bool `(clients, batch)`; the others are zero.
        unexplained: share of the shared gradient that it leaves over, `(clients,)`.
        labels: share of its class numbers that are right, `(clients,)`; NaN where none was named.
        scores: of each record against the true one, float64 `(clients * batch,)` by name: see `scored`.
        control: of each record against another one of the same class.
    """

    case: Case
    tried: Mapping[str, Tried]
    chosen: tuple[str, ...]
    records: Tensor
    found: np.ndarray
    unexplained: np.ndarray
    labels: np.ndarray
    scores: Mapping[str, np.ndarray]
    control: Mapping[str, np.ndarray]

    def by_client(self, name: str, *, control: bool = False) -> np.ndarray:
        """A score's mean over the batch of each client `(clients,)`."""
        values = (self.control if control else self.scores)[name]
        return values.reshape(self.case.clients, self.case.batch).mean(axis=1)

    def first(self, clients: int) -> "Rebuilt":
        """That of the first clients alone."""
        rows = clients * self.case.batch
        return replace(
            self,
            case=replace(self.case, clients=clients),
            chosen=self.chosen[:clients],
            records=self.records[:clients],
            found=self.found[:clients],
            unexplained=self.unexplained[:clients],
            labels=self.labels[:clients],
            scores={name: values[:rows] for name, values in self.scores.items()},
            control={name: values[:rows] for name, values in self.control.items()},
        )

    def __len__(self) -> int:
        return self.case.clients


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the audit gathered.

    Args:
        plain: without a defense, by batch size.
        defended: with one, in the order of the defenses and their adversaries.
        prices: of each defense by its label: `cosine` and `error` of its clients' gradients.
        whole: batch sizes at which everything was found before any search was run.
    """

    plain: Mapping[int, Rebuilt]
    defended: Sequence[Rebuilt]
    prices: Mapping[str, Artifact]
    whole: frozenset[int]


def gather(exchange: Exchange) -> Evidence:
    """Run each stage of attacks on every case that those before it left open."""
    plan, first = exchange.plan, exchange.batch_sizes[0]
    plain = [Case(batch, exchange.clients(batch)) for batch in exchange.batch_sizes]
    few = min(exchange.clients(first), max(2, plan.tried // first))
    grid = [Case(first, few, one, adversary) for one in exchange.defenses for adversary in adversaries_of(one)]
    tried: dict[Case, dict[str, Tried]] = {case: {} for case in (*plain, *grid)}
    pricing = {one.label: _pricing(exchange, Case(first, few, one)) for one in exchange.defenses}
    prices: dict[str, Artifact] = {}
    whole: frozenset[int] = frozenset()
    for stage in STAGES:
        pending = [case for case in tried if not _settled(tried[case])]
        if stage is searches:
            whole = frozenset(case.batch for case in plain if case not in pending)
        attacks = {case: stage(plan, image=exchange.records.is_image, batch=case.batch) for case in pending}
        if stage is searches and plan.name != "thorough":
            attacks |= {case: dict(list(attacks[case].items())[:1]) for case in pending if case in grid}
        for case, found in _run(exchange, attacks, pricing, prices).items():
            tried[case] |= found
    results = {case: strongest(exchange, case, found, lesser=_of_lesser(case, tried)) for case, found in tried.items()}
    return Evidence(
        plain={case.batch: results[case] for case in plain},
        defended=[results[case] for case in grid],
        prices=prices,
        whole=whole,
    )


def adversaries_of(defense: Defense) -> tuple[Adversary, ...]:
    """The adversaries worth telling apart: an oracle knows more only where something is drawn."""
    return ("blind", "adaptive") if defense.randomness == "none" else ("blind", "adaptive", "oracle")


def _of_lesser(case: Case, tried: Mapping[Case, Mapping[str, Tried]]) -> dict[str, Tried]:
    """What adversaries who know less of the same defense made of the same clients, by attack and adversary."""
    own = ADVERSARIES.index(case.adversary)
    lesser = [replace(case, adversary=one) for one in ADVERSARIES[:own]]
    return {f"{name}, {one.adversary}": found for one in lesser for name, found in tried[one].items()}


def _settled(tried: Mapping[str, Tried]) -> bool:
    """Whether closed forms have every client's whole batch."""
    able = [one for one in tried.values() if not one.refused]
    return bool(able) and bool(np.logical_or.reduce([one.array("unexplained") < CLEAR for one in able]).all())


def _run(
    exchange: Exchange,
    attacks: Mapping[Case, Mapping[str, GradientAttack]],
    pricing: Mapping[str, Step],
    prices: dict[str, Artifact],
) -> dict[Case, dict[str, Tried]]:
    """Every attack of every case, and the prices that are not known yet, which are added to `prices`."""
    steps = {case: {name: _steps(exchange, case, one) for name, one in own.items()} for case, own in attacks.items()}
    flat = [step for own in steps.values() for several in own.values() for step in several]
    missing = {name: step for name, step in pricing.items() if name not in prices}
    if not flat and not missing:
        return {}
    every = [*missing.values(), *flat]
    done = execute(every, exchange.store, engine=exchange.engine, progress=exchange.progress)
    prices |= {name: done[step.key] for name, step in missing.items()}
    return {
        case: {name: _tried([done[step.key] for step in several]) for name, several in own.items()}
        for case, own in steps.items()
    }


def _tried(artifacts: list[Artifact]) -> Tried:
    return Tried(tuple(artifacts), sum(one.facts.get("seconds", 0.0) for one in artifacts))


def _steps(exchange: Exchange, case: Case, attack: GradientAttack) -> list[Step]:
    size = CHUNK if isinstance(attack, (Search, GaussNewton)) else case.clients
    under = "" if type(case.defense) is Defense else f", {case.defense.label}, {case.adversary}"
    steps = []
    for number, start in enumerate(range(0, case.clients, size)):
        one = Attempt(attack, case.defense, case.adversary, exchange.training, exchange.seed + 1000 * number)
        window = (start, min(start + size, case.clients))
        settings = Trying(exchange.identity, one, case.batch, window, exchange.carried)
        label = f"{attack.name} on {window[1] - window[0]} x {case.batch}{under}"
        steps.append(Step(pursue, settings, {"data": exchange.data}, label=label))
    return steps


def _pricing(exchange: Exchange, case: Case) -> Step:
    # No attack runs here; one must be named.
    one = Attempt(FirstLayer(), case.defense, "blind", exchange.training, exchange.seed)
    settings = Pricing(exchange.identity, one, case.batch, (0, case.clients), exchange.carried)
    return Step(price, settings, {"data": exchange.data}, label=f"what {case.defense.label} does to gradients")


def strongest(
    exchange: Exchange, case: Case, tried: Mapping[str, Tried], *, lesser: Mapping[str, Tried] = MappingProxyType({})
) -> Rebuilt:
    """For each client the reconstruction that an attacker would believe: one that surely is right, else the one that
    explains most of the shared gradient.

    Args:
        exchange: the audit.
        case: which.
        tried: every attack that was run, by name.
        lesser: those of adversaries who know less, who measure what is explained in another way. So theirs is taken
            where it surely is right and nothing of their own is, or where there is nothing else.
    """
    able = {name: one for name, one in (*tried.items(), *lesser.items()) if not one.refused}
    shape = (case.batch, *exchange.records.shape)
    truth, others = (
        exchange.corpus.part(part(case.batch)).inputs.unflatten(0, (-1, case.batch))[: case.clients]
        for part in (victims_of, others_of)
    )
    records = torch.zeros(case.clients, *shape)
    found = np.zeros((case.clients, case.batch), dtype=bool)
    left, labels = np.ones(case.clients), np.full(case.clients, np.nan)
    chosen = ["none"] * case.clients
    for client in range(case.clients):
        ranked = [
            (0 if one.claims()[client] else 1 + (name in lesser), float(one.array("unexplained")[client]), name)
            for name, one in able.items()
            if client < one.clients and one.array("found")[client].any()
        ]
        if not ranked:
            continue
        _, left[client], name = min(ranked)
        best, chosen[client] = able[name], name
        records[client] = torch.from_numpy(best.array("reconstructions")[client])
        found[client] = best.array("found")[client]
        wholes = [(loss, other) for _, loss, other in ranked if able[other].array("found")[client].all()]
        if not found[client].all() and wholes:
            rest = torch.from_numpy(able[min(wholes)[1]].array("reconstructions")[client])
            records[client], found[client] = completed(records[client], found[client], rest), True
        if best.has("labels"):
            labels[client] = best.array("labels")[client]
    records, known = _turned(records.clamp(0, 1), torch.from_numpy(found), truth)
    elsewhere = _turned(records, known, others)
    return Rebuilt(
        case,
        tried,
        tuple(chosen),
        records,
        known.numpy(),
        left,
        labels,
        scored(exchange, records, known, truth),
        scored(exchange, *elsewhere, others),
    )


def _turned(records: Tensor, found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Reconstructions and which were found, in the order that goes best with some records."""
    order = scoring.aligned(records, truth)
    first, second = (torch.stack([own[rows] for own, rows in zip(one, order, strict=True)]) for one in (records, found))
    return first, second


def completed(some: Tensor, found: np.ndarray, whole: Tensor) -> Tensor:
    """A batch of which some records are surely known, the others out of a batch that is known but roughly.

    Each known record takes the place of the one that it is nearest to; the truth has no part in it.

    Args:
        some: `(batch, *shape)`.
        found: which of them are known, bool `(batch,)`.
        whole: `(batch, *shape)`.
    """
    from scipy.optimize import linear_sum_assignment

    distances = torch.cdist(some[found].flatten(1), whole.flatten(1))
    known, places = linear_sum_assignment(distances.numpy())
    batch = whole.clone()
    batch[places] = some[found][known]
    return batch


def scored(exchange: Exchange, records: Tensor, found: Tensor, truth: Tensor) -> dict[str, np.ndarray]:
    """The scores of each record `(clients, batch, *shape)`, float64 `(clients * batch,)`.

    Returns:
        `mse`, `psnr` and, for images large enough, `ssim`; for tables `columns`, the share of columns that are near,
        and `worst`, the largest error as a share of a column's range. Of records that were found, `exact`: nothing
        differs that could be seen; `picked`: it is nearer to the true record than to any other that was given; and
        `recognizable`: picked, and like it as well.
    """
    single = [side.flatten(0, 1)[:, None] for side in (records, truth)]
    told = {name: values.numpy() for name, values in scoring.pictures(*single).items() if name != "network mse"}
    errors = (single[0] - single[1]).abs().flatten(1).double()
    known, largest = found.flatten().numpy(), errors.amax(dim=1).numpy()
    told["picked"] = known & _picked(exchange, *single)
    if truth.ndim == 3:
        told["columns"] = (errors <= NEAR).double().mean(dim=1).numpy()
        told["worst"] = largest
        alike = told["columns"] >= MOSTLY
    else:
        alike = told["ssim"] >= SIMILAR if "ssim" in told else told["psnr"] >= PEAK
    told["exact"] = known & (largest <= (SAME if truth.ndim == 3 else GRAY))
    told["recognizable"] = told["exact"] | (told["picked"] & alike)
    return told


def _picked(exchange: Exchange, records: Tensor, truth: Tensor) -> np.ndarray:
    """Whether each record is nearer to the true one than to any other of those given, or of as many as are compared."""
    rows = np.random.default_rng(exchange.seed).permutation(len(exchange.records))[:POOL]
    pool = exchange.records.inputs[rows].flatten(1)
    near = torch.cdist(records.flatten(1), pool).amin(dim=1)
    own = (records - truth).flatten(1).norm(dim=1)
    return (own <= near * (1 + 1e-5) + 1e-6).numpy()
