"""Running a graph of steps: what is stored is read, what is missing is computed, each step once."""

from collections import Counter
from collections.abc import Sequence
from graphlib import TopologicalSorter

from divulge.runs.engines import Engine
from divulge.runs.progress import Progress, Silent
from divulge.runs.step import Artifact, Step
from divulge.runs.store import Store


def plan(targets: Sequence[Step], store: Store) -> list[tuple[Step, bool]]:
    """The steps that a run needs, inputs first, each with whether it is stored.

    What lies behind a stored step is not needed and not listed.
    """
    needed: dict[str, tuple[Step, bool]] = {}
    pending = list(reversed(targets))
    while pending:
        step = pending.pop()
        if step.key in needed:
            continue
        stored = store.has(step.key)
        needed[step.key] = (step, stored)
        if not stored:
            pending.extend(reversed(list(step.inputs.values())))
    links = {key: () if stored else tuple(step.input_keys.values()) for key, (step, stored) in needed.items()}
    return [needed[key] for key in TopologicalSorter(links).static_order()]


def execute(
    targets: Sequence[Step], store: Store, *, engine: Engine, progress: Progress | None = None
) -> dict[str, Artifact]:
    """Compute whatever of a graph is not stored, and read the targets.

    Killed and called again, it goes on where it stood; two processes may do so in one folder at once.

    Args:
        targets: the steps whose results are wanted.
        store: the run folder.
        engine: where to compute.
        progress: whom to tell; nobody if left out.

    Returns:
        The targets' artifacts by key, in the order given.

    Raises:
        DivulgeError: a step raised it; the message names the step, the original is the cause.
        StepError: a step raised anything else, or its worker processes kept dying.
        StoreError: the run folder cannot be written to.

    Example:
        >>> import tempfile
        >>> from divulge.runs.engines import LocalEngine
        >>> def square(settings, inputs, context):
        ...     return Artifact(facts={"value": settings["x"] ** 2})
        >>> def total(settings, inputs, context):
        ...     return Artifact(facts={"value": sum(part.facts["value"] for part in inputs.values())})
        >>> parts = {f"part{x}": Step(square, {"x": x}) for x in range(4)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     results = execute([Step(total, {}, parts)], Store(folder), engine=LocalEngine(1))
        ...     [artifact.facts for artifact in results.values()]
        [{'value': 14}]
    """
    progress = progress or Silent()
    store.clean()
    planned = plan(targets, store)
    missing = [step for step, stored in planned if not stored]
    progress.start([step for step, _ in planned])
    try:
        for step, stored in planned:
            if stored:
                progress.done(step, 0.0, True)
        if missing:
            engine.run(store, missing, progress, width=_width(targets))
    finally:
        progress.stop()
    return {step.key: store.read(step.key) for step in targets}


def _width(targets: Sequence[Step]) -> int:
    """Most steps at one depth of the whole graph, stored or not, so that a resumed run shares threads as before."""
    graph: dict[str, Step] = {}
    pending = list(targets)
    while pending:
        step = pending.pop()
        if step.key not in graph:
            graph[step.key] = step
            pending.extend(step.inputs.values())
    depths: dict[str, int] = {}
    for key in TopologicalSorter({key: step.input_keys.values() for key, step in graph.items()}).static_order():
        depths[key] = 1 + max((depths[above] for above in graph[key].input_keys.values()), default=0)
    return max(Counter(depths.values()).values(), default=1)
