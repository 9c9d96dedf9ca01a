"""The audit of gradients: a client of federated learning with a person's model and records, and who reads along."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from divulge.auditing.corpus import Corpus, keep
from divulge.auditing.gradients.audit_plan import Plan, plan
from divulge.auditing.gradients.audit_steps import PUBLIC, Carried, others_of, victims_of
from divulge.auditing.gradients.victims import choose
from divulge.auditing.targets import Target
from divulge.data import Dataset, concatenate
from divulge.defenses import Defense
from divulge.errors import BadInputError
from divulge.releases import GradientRecord, share
from divulge.runs.engines import Engine
from divulge.runs.progress import Progress
from divulge.runs.step import Step
from divulge.runs.store import Store
from divulge.settings import fingerprint

MOST_PUBLIC = 1_000
"""At most so many records of their own are handed to the adversary."""


@dataclass(frozen=True)
class Sharing:
    """How clients of federated learning share gradients.

    Args:
        batch_sizes: records that a client computes a gradient on; each is audited by itself.
        training: whether the clients' model is in training mode. If None, it is where the model has batch norm and no
            dropout, as then the two modes differ in a way that a search can follow; else evaluation mode.

    Raises:
        BadInputError: no batch size, or one below 1.
    """

    batch_sizes: tuple[int, ...] = (1, 4)
    training: bool | None = None

    def __post_init__(self) -> None:
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise BadInputError(
                f"batch sizes: expected one or several of 1 or more, such as 1,4, got {list(self.batch_sizes)}."
            )


@dataclass(frozen=True, eq=False)
class Exchange:
    """What is audited: a model, the clients that share its gradients, and the means of who attacks them.

    Args:
        target: the model.
        network: it, as the clients compute with it: records in `[0, 1]` to logits.
        corpus: the records, with the parts `victims-B` and `others-B` for each batch size `B` and, where there are
            records for it, `public`.
        data: the corpus as a step of the run's graph.
        batch_sizes: see `Sharing`.
        training: whether the clients' model is in training mode.
        mode: why, in words.
        low: what 0 stands for in each column of a table; 0 for images.
        width: how much 1 stands for above it; 1 for images.
        plan: how much may be spent.
        defenses: to try.
        seed: of everything drawn.
        store: where steps are kept.
        engine: what runs them.
        progress: told about them.
    """

    target: Target
    network: nn.Module
    corpus: Corpus
    data: Step
    batch_sizes: tuple[int, ...]
    training: bool
    mode: str
    low: Tensor
    width: Tensor
    plan: Plan
    defenses: tuple[Defense, ...]
    seed: int
    store: Store
    engine: Engine
    progress: Progress | None = field(default=None)

    @property
    def records(self) -> Dataset:
        """All records, in `[0, 1]`."""
        return self.corpus.data

    @property
    def identity(self) -> str:
        """Stands for the network in a run's keys."""
        return fingerprint([self.target.fingerprint, self.low.tolist(), self.width.tolist()])

    @property
    def carried(self) -> Carried:
        """The network, fit to travel."""
        return Carried(self.network)

    def clients(self, batch: int) -> int:
        """How many clients there are with batches of this size."""
        return len(self.corpus.parts[victims_of(batch)]) // batch

    def own_units(self, records: Tensor) -> Tensor:
        """Records in the units that they were given in."""
        return records * self.width + self.low


class Ranged(nn.Module):
    """A network of table columns in `[0, 1]`, each scaled back to the range that the network was trained on.

    Args:
        inner: the network.
        low: of each column.
        width: of each column.
    """

    low: Tensor
    width: Tensor

    def __init__(self, inner: nn.Module, low: Tensor, width: Tensor) -> None:
        super().__init__()
        self.inner = inner
        place = next(iter(inner.parameters()), low).device
        self.register_buffer("low", low.to(place))
        self.register_buffer("width", width.to(place))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of records `(N, D)`."""
        answer: Tensor = self.inner(x * self.width + self.low)
        return answer


def prepare(
    target: Target,
    members: Dataset,
    sharing: Sharing,
    *,
    budget: str,
    store: Store,
    engine: Engine,
    public: Dataset | None = None,
    defenses: Sequence[Defense] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> Exchange:
    """Draw the clients' batches, and see that they can share a gradient and that the defenses can act on it.

    Args:
        target: the model.
        members: a sample of the records that clients would train on.
        sharing: how they share.
        budget: `quick`, `standard` or `thorough`.
        store: where steps are kept.
        engine: what runs them.
        public: records of the same kind that the adversary has.
        defenses: to try on what is shared.
        seed: of everything drawn.
        progress: told about the steps.

    Raises:
        BadInputError: a target that is no torch module, or one that learns nothing or cannot be differentiated; too few
            records for the batches; or a defense that does not act on what is shared, or not on this model.
    """
    means = plan(budget)
    if seed < 0:
        raise BadInputError(f"seed: expected 0 or more, got {seed}.")
    if target.module is None:
        raise _no_module(target.kind)
    if members.num_classes < 2:
        raise BadInputError("expected records of two classes or more, got one. Name them all (classes=...).")
    for one in defenses:
        if not one.in_sharing:
            raise BadInputError(
                f"defenses: {one.name} does not act on the gradients that a client shares, so there is nothing to try "
                "it on here. Leave it out, or audit the posteriors."
            )
    low, width = _ranges(members, public)
    parts = {batch: _drawn(members, batch, means.records, seed) for batch in sharing.batch_sizes}
    bare = [replace(one, attributes={}, attribute_classes={}) for one in (members, public) if one is not None]
    everything = concatenate(bare)
    rows: dict[str, np.ndarray] = {}
    for batch, chosen in parts.items():
        rows |= {victims_of(batch): chosen.rows, others_of(batch): chosen.others}
    if public is not None:
        own = np.random.default_rng(seed).permutation(len(public))[:MOST_PUBLIC]
        rows[PUBLIC] = len(members) + np.sort(own)
    scaled = replace(everything, inputs=((everything.inputs - low) / width).clamp(0, 1), ids=_ids(members, everything))
    corpus = Corpus(scaled, rows)
    network = target.module if members.is_image else Ranged(target.module, low, width)
    training, mode = _mode(network, corpus, sharing)
    for batch in sharing.batch_sizes:
        honest = _trial(network, corpus, batch, training=training)
        for one in defenses:
            _defended(one, honest, network, corpus, batch)
    return Exchange(
        target,
        network,
        corpus,
        keep(corpus, store),
        sharing.batch_sizes,
        training,
        mode,
        low,
        width,
        means,
        tuple({one.label: one for one in defenses}.values()),
        seed,
        store=store,
        engine=engine,
        progress=progress,
    )


def require_module(model: Any) -> None:
    """See that a model can be asked for gradients, before it is asked for anything else.

    Raises:
        BadInputError: it is no torch module.
    """
    if not isinstance(model, nn.Module) and not (isinstance(model, Target) and model.module is not None):
        raise _no_module(type(model).__name__)


def _no_module(kind: str) -> BadInputError:
    return BadInputError(
        f"gradients: a client shares the gradient of a torch module, and this is a {kind}, of which only answers can "
        "be had. Give the module itself (--model file.py:factory), or audit its posteriors."
    )


def _ids(members: Dataset, everything: Dataset) -> tuple[str, ...]:
    own = members.ids or tuple(f"record {row}" for row in range(len(members)))
    return (*own, *(f"public {row}" for row in range(len(everything) - len(members))))


def _ranges(members: Dataset, public: Dataset | None) -> tuple[Tensor, Tensor]:
    """The least value and the range of each column of a table; images are in `[0, 1]` already."""
    if members.is_image:
        return torch.zeros(()), torch.ones(())
    rows = members.inputs if public is None else torch.cat([members.inputs, public.inputs])
    low, high = rows.amin(dim=0), rows.amax(dim=0)
    return low, torch.where(high > low, high - low, torch.ones_like(high))


def _drawn(members: Dataset, batch: int, records: int, seed: int) -> Any:
    """As many clients as the plan has and the records allow."""
    if batch >= len(members):
        raise BadInputError(
            f"batch size {batch}: expected more records than one batch, to compare what is rebuilt with, got "
            f"{len(members)}. Give more records or a smaller batch."
        )
    trouble = ""
    for count in range(max(2, records // batch), 0, -1):
        try:
            return choose(members, count=count, batch=batch, seed=seed)
        except BadInputError as error:
            trouble = str(error)
    raise BadInputError(f"batch size {batch}: not even one client can be drawn. {trouble} Or give more records.")


def _mode(network: nn.Module, corpus: Corpus, sharing: Sharing) -> tuple[bool, str]:
    """Whether clients compute in training mode, and why, in words."""
    if sharing.training is not None:
        return sharing.training, "as asked for"
    norms = any(isinstance(layer, _BatchNorm) for layer in network.modules())
    drops = any(isinstance(layer, _DropoutNd) and layer.p > 0 for layer in network.modules())
    if drops:
        return False, (
            "since the model has dropout, which a search cannot play again; a client that trains with it shares a "
            "noisier gradient, of which closed forms at the first layer are not hindered"
        )
    if not norms:
        return False, "which is the same as training mode for this model"
    try:
        for batch in sharing.batch_sizes:
            _trial(network, corpus, batch, training=True)
    except BadInputError:
        return False, (
            "since its batch norm cannot be computed in training mode on the smallest batch; clients that train on "
            "larger ones share something else"
        )
    return True, "since the model has batch norm, which clients compute on their own batch while they train"


def _trial(network: nn.Module, corpus: Corpus, batch: int, *, training: bool) -> GradientRecord:
    """What the first client would share.

    Raises:
        BadInputError: the network raises, learns nothing, or its gradient is zero or not finite.
    """
    own = corpus.part(victims_of(batch))[:batch]
    place = next(iter(network.parameters()), own.inputs).device
    try:
        record = share(network, own.inputs.to(place), own.targets.to(place), training=training)
    except BadInputError:
        raise
    except Exception as error:
        raise BadInputError(
            f"gradients: a batch of {batch} in {'training' if training else 'evaluation'} mode raised "
            f"{type(error).__name__}: {error}"
        ) from error
    record.require(network)
    return record


def _defended(one: Defense, honest: GradientRecord, network: nn.Module, corpus: Corpus, batch: int) -> None:
    """See that a defense can act on what the first client shares."""
    own, generator = corpus.part(victims_of(batch))[:batch], torch.Generator().manual_seed(0)
    place = next(iter(network.parameters())).device
    try:
        one.share(
            honest, model=network, inputs=own.inputs.to(place), targets=own.targets.to(place), generator=generator
        )
        one.tampering(network)
    except Exception as error:
        raise BadInputError(
            f"defenses: {one.name} cannot act on a gradient of this model: {type(error).__name__}: {error}"
        ) from error


def described(exchange: Exchange) -> Mapping[str, str]:
    """The settings of the audit, label to text."""
    sizes = [f"{exchange.clients(batch)} of {batch}" for batch in exchange.batch_sizes]
    return {
        "clients and their batch sizes": ", ".join(sizes),
        "mode of the clients' model": "training" if exchange.training else "evaluation",
        "defenses tried on gradients": ", ".join(map(str, exchange.defenses)) or "none",
    }
