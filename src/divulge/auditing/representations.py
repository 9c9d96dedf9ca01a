"""What each layer of a network makes of records, and an attribute read off it beside what can be guessed without it."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from divulge.attacks.attributes import Overlearning, require_attribute
from divulge.auditing.targets.base import Untrained
from divulge.auditing.targets.modules import asking
from divulge.data import Dataset, copies
from divulge.errors import BadInputError
from divulge.metrics import Finding, accuracy, bootstrap, macro_scores
from divulge.metrics.by_class import f1_by_class
from divulge.models import seeded
from divulge.models.stochastic import Stochastic
from divulge.releases import Representation

MAJORITY, LABEL, INPUT = "most frequent value", "label", "input"
"""Names of three controls: the most frequent value, the record's class alone, and the record itself."""
ACCURACY, BALANCED, MACRO_F1 = "attribute accuracy", "attribute balanced accuracy", "attribute macro F1"
"""Metrics of a guess."""
ANSWER = "answer"
"""Name of what a model that is no module gives."""
WIDE = 2048
"""Features of a layer that a probe is given; a layer of more is averaged over neighboring pixels until it fits."""
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Softplus, Stochastic)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def readable(model: nn.Module, inputs: Tensor) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the layers of `model` that are worth a look, in the order they run, and of those that cannot be told.

    The first, none where nothing can be told, are what comes out of each activation and of each linear layer, of the
    convolutions where no activation is a module, and of the last layer. The second run several times for one answer or
    never, or give no tensor with a row a record.

    Args:
        model: maps `(N, *shape)` to logits.
        inputs: two records or more, to see what runs.
    """
    leaves = [name for name, layer in model.named_modules() if name and not list(layer.children())]
    with seeded(0):
        found = _heard(model, inputs[:2], leaves)
    once = [name for name, parts in found.items() if len(parts) == 1 and len(parts[0]) == len(inputs[:2])]
    kinds = dict(model.named_modules())
    wanted = [name for name in kinds if isinstance(kinds[name], (*ACTIVATIONS, nn.Linear))]
    if not any(isinstance(kinds[name], ACTIVATIONS) for name in once):
        wanted += [name for name in kinds if isinstance(kinds[name], CONVOLUTIONS)]
    kept = [name for name in once if name in wanted or name == once[-1]]
    return tuple(kept), tuple(name for name in wanted if name in found and name not in once)


def layers(
    model: nn.Module, inputs: Tensor, *, names: Sequence[str] = (), batch_size: int = 512
) -> dict[str, np.ndarray]:
    """What layers of `model` give for records, in evaluation mode, float32 `(N, d)` by their names.

    The mode and the hooks of the model are left as they were. What a layer draws, it draws from one fixed seed.

    Args:
        model: maps `(N, *shape)` to logits.
        inputs: the records.
        names: of the layers, as in `named_modules`; those that `readable` names if empty.
        batch_size: how many at once.

    Raises:
        BadInputError: no such layer, one that runs several times or never, or one that gives no row a record.
    """
    names = tuple(names) or readable(model, inputs)[0]
    known = [name for name, _ in model.named_modules() if name]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise BadInputError(
                f"representations: no layer {name!r}{hint}. There are: {', '.join(known) or 'none with a name'}."
            )
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    with seeded(0):
        for batch in inputs.split(batch_size):
            for name, parts in _heard(model, batch, names).items():
                if len(parts) != 1 or len(parts[0]) != len(batch):
                    raise BadInputError(
                        f"representations: expected layer {name} to run once and give a row for each of {len(batch)} "
                        f"records, got {[len(part) for part in parts]} rows. Give each activation a module of its own."
                    )
                found[name] += parts
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _heard(model: nn.Module, batch: Tensor, names: Sequence[str]) -> dict[str, list[np.ndarray]]:
    """What came out of layers for a batch, one array a time that a layer ran; in the order of their first run."""
    found: dict[str, list[np.ndarray]] = {}

    def see(layer: nn.Module, given: tuple[Any, ...], out: Any, *, name: str) -> None:
        rows = isinstance(out, Tensor) and out.ndim > 1
        found.setdefault(name, []).append(_narrow(out.detach()).float().cpu().numpy() if rows else np.empty((0, 0)))

    hooks = [model.get_submodule(name).register_forward_hook(partial(see, name=name)) for name in names]
    try:
        asking(model)(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found | {name: [] for name in names if name not in found}


def _narrow(out: Tensor) -> Tensor:
    if out.ndim == 3 and out[0].numel() > WIDE:
        return out.mean(dim=1)
    while out.ndim == 4 and out[0].numel() > WIDE and min(out.shape[2:]) > 1:
        out = nn.functional.avg_pool2d(out, 2, ceil_mode=True)
    return out.flatten(1)


@dataclass(frozen=True, eq=False)
class Guessed:
    """How well an attribute was guessed from one source.

    Args:
        source: a layer's name, or that of a control.
        probe: the kind of probe that was chosen; empty where there is none.
        expected: the share of the adversary's own records that it got right while it was chosen.
        values: what was guessed for each record `(n,)`.
        findings: by their metrics, accuracy, balanced accuracy (the mean over values), macro F1, the latter two also
            with rare values weighed up, and the F1 of each value. Their control is the same layer with its first
            weights where there is such a thing, else the most frequent value.
    """

    source: str
    probe: str
    expected: float
    values: np.ndarray
    findings: Mapping[str, Finding]


@dataclass(frozen=True, eq=False)
class Exposure:
    """What the layers of a model tell of an attribute, and what can be guessed without it.

    Args:
        attribute: its name.
        names: of its values.
        truth: the value of each record `(n,)`.
        layers: one entry a layer, in the order they run.
        controls: what can be guessed without the model: from nothing, from the class alone, from the records.
        blank: the layers of the same network with its first weights, where there is such a thing.
        notes: what a reader must know about how it was done.
    """

    attribute: str
    names: tuple[str, ...]
    truth: np.ndarray
    layers: tuple[Guessed, ...]
    controls: tuple[Guessed, ...]
    blank: tuple[Guessed, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def strongest(self) -> Guessed:
        """The layer that tells most, as far as the adversary's own records let it foresee."""
        return max(self.layers, key=lambda one: one.expected)

    @property
    def anyway(self) -> Guessed:
        """The better of the two guesses that take neither the model nor the record: most frequent value, or class."""
        return max((one for one in self.controls if one.source != INPUT), key=lambda one: one.expected)

    def gained(self, layer: Guessed) -> Finding:
        """How many more of the records are guessed right from a layer than anyway, with a paired interval.

        The control is the same for the layer with its first weights.
        """
        blank = next((one for one in self.blank if one.source == layer.source), None)
        return self._gained(layer, None if blank is None else self._gained(blank, None))

    def _gained(self, layer: Guessed, control: Finding | None) -> Finding:
        ours, theirs = (one.values == self.truth for one in (layer, self.anyway))
        more = bootstrap(lambda a, b: float(a.mean() - b.mean()), ours, theirs, seed=0)
        return Finding("accuracy gained", *more, n=len(self.truth), control=control)


def expose_attribute(
    model: nn.Module | Callable[[Tensor], np.ndarray],
    known: Dataset,
    test: Dataset,
    attribute: str,
    *,
    names: Sequence[str] = (),
    attack: Overlearning | None = None,
    seed: int = 0,
    watch: Callable[[float], None] = lambda share: None,
) -> Exposure:
    """Read an attribute of records off every layer of a model, beside what can be guessed without it.

    Song and Shmatikov 2020 (arXiv 1905.11742). The adversary knows the attribute of records of its own and sees what
    the layers make of those and of the records to guess. This is what the audit of a classifier calls; its arguments
    and the fields of `Exposure` and `Guessed` stay as they are.

    Args:
        model: a module that maps `(N, *shape)` to logits, left as it was; or a function from float32 records to
            `(N, d)`, such as posteriors, which is read as one layer called `answer` and has no control with first
            weights.
        known: the adversary's records, with the attribute; those that are copies of records to guess are left out.
        test: the records to guess, with the attribute, to score by.
        attribute: its name in both, a category.
        names: of the layers; those that `readable` names if empty.
        attack: the probes; `Overlearning()` if left out.
        seed: of the first weights of the control.
        watch: told the share that is done.

    Raises:
        BadInputError: an attribute that is missing, no category or constant, fewer of the adversary's records of a
            value than folds, no such layer, or features that are not finite.

    Example:
        >>> import torch
        >>> inputs = torch.from_numpy(np.random.default_rng(0).random((300, 4), dtype=np.float32))
        >>> data = Dataset(inputs, torch.arange(300) % 2, attributes={"tall": (inputs[:, 0] > 0.5).long()})
        >>> probe = Overlearning(probes=("logistic",))
        >>> found = expose_attribute(nn.Linear(4, 4), data[:200], data[200:], "tall", attack=probe)
        >>> found.strongest.source, bool(found.gained(found.strongest).low > 0.2)
        ('answer', True)
    """
    attack = attack or Overlearning()
    truth, mine = _column(test, attribute, "records to guess"), _column(known, attribute, "the adversary's records")
    shared, notes = copies(known, of=test), []
    apart, mine = known[~shared], mine[~shared]
    if shared.any():
        notes.append(f"{int(shared.sum()):,} of the adversary's records are copies of some to guess and were left out")
    require_attribute(mine, where=f"attribute {attribute!r}", each=attack.folds)
    values = known.attribute_classes.get(attribute) or tuple(map(str, range(int(mine.max()) + 1)))
    if truth.min() < 0 or truth.max() >= len(values):
        raise BadInputError(
            f"records to guess: expected values of {attribute!r} from 0 to {len(values) - 1}, as among the adversary's "
            f"records, got {truth.min()} to {truth.max()}. Number the categories alike, or leave those records out."
        )
    classes = max(known.num_classes, test.num_classes)
    pairs = {"outside": tuple(without_model(part, classes) for part in (apart, test))}
    if isinstance(model, nn.Module):
        if not names:
            names, untold = readable(model, apart.inputs)
            if untold:
                notes.append(f"layers that do not run exactly once for an answer were left out: {', '.join(untold)}")
        try:
            with seeded(seed):
                fresh = Untrained(model)()
            pairs["blank"] = tuple(_told(fresh, part.inputs, names) for part in (apart, test))
        except BadInputError as error:
            notes.append(f"no control with first weights: {error}")
    pairs["read"] = tuple(_told(model, part.inputs, names) for part in (apart, test))

    total, done = sum(len(ours) for ours, _ in pairs.values()), 0
    counts = np.bincount(mine, minlength=len(values))
    found: dict[str, tuple[Guessed, ...]] = {}
    most = np.full_like(truth, counts.argmax())
    nothing = Guessed(MAJORITY, "", float(counts.max() / counts.sum()), most, scored(truth, most, most, names=values))
    for what, (ours, others) in pairs.items():
        beside = {one.source: one for one in found.get("blank", ())} if what == "read" else {}
        found[what] = ()
        for name in ours:
            guesses = attack.run(Representation(ours[name], name), mine, Representation(others[name], name))
            facts, control = guesses.facts, beside.get(name, nothing)
            findings = scored(truth, guesses.values, guesses.even(mine), names=values, control=control.findings)
            found[what] += (Guessed(name, facts["probe"], facts["expected"], guesses.values, findings),)
            done += 1
            watch(done / total)
    controls = (nothing, *found["outside"][::-1])
    return Exposure(attribute, values, truth, found["read"], controls, found.get("blank", ()), tuple(notes))


def scored(
    truth: np.ndarray,
    values: np.ndarray,
    even: np.ndarray,
    *,
    names: Sequence[str],
    control: Mapping[str, Finding] | None = None,
    adversary: str | None = None,
) -> dict[str, Finding]:
    """Findings on guesses of an attribute, by their metrics; see `Guessed`.

    Args:
        truth: int64 `(n,)`.
        values: what was guessed.
        even: what is guessed where rare values count as much as frequent ones.
        names: of the values.
        control: findings to stand beside.
        adversary: what it knows of a defense, if there is one.
    """
    plain, weighed = (macro_scores(truth, one, resamples=300) for one in (values, even))
    estimates = {
        ACCURACY: accuracy(truth, values),
        BALANCED: plain.recall,
        MACRO_F1: plain.f1,
        f"{BALANCED}, rare values weighed up": weighed.recall,
        f"{MACRO_F1}, rare values weighed up": weighed.f1,
    }
    estimates |= {f"F1 of {names[value]}": one for value, one in f1_by_class(truth, values, resamples=300).items()}
    return {
        metric: Finding(metric, *estimate, n=len(truth), control=(control or {}).get(metric), adversary=adversary)
        for metric, estimate in estimates.items()
    }


def _column(data: Dataset, attribute: str, whose: str) -> np.ndarray:
    """The values of a category, int64 `(n,)`."""
    if attribute not in data.attributes:
        raise BadInputError(f"{whose}: no attribute {attribute!r}. There are: {', '.join(data.attributes) or 'none'}.")
    column = data.attributes[attribute].numpy()
    if not len(column):
        raise BadInputError(f"{whose}: expected a record or more, got none.")
    if not np.isfinite(column).all() or (column != column.round()).any():
        raise BadInputError(
            f"{whose}: expected the attribute {attribute!r} in whole numbers, one a category, got {column.dtype} such "
            f"as {column[column != column.round()][0]:g}. Put the numbers into ranges, and leave out unknown ones."
        )
    return column.astype(np.int64)


def _told(
    model: nn.Module | Callable[[Tensor], np.ndarray], inputs: Tensor, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """What layers give, or the answer where none can be told."""
    if isinstance(model, nn.Module) and names:
        return layers(model, inputs, names=names)
    ask = asking(model) if isinstance(model, nn.Module) else model
    return {ANSWER: np.concatenate([np.asarray(ask(batch), dtype=np.float32) for batch in inputs.split(512)])}


def without_model(data: Dataset, classes: int) -> dict[str, np.ndarray]:
    """What an adversary has who does not see the model: the records, and which of the classes each is of."""
    one_hot = np.eye(classes, dtype=np.float32)[data.targets.numpy()]
    return {INPUT: _narrow(data.inputs).numpy(), LABEL: one_hot}
