"""A step of a run: a function, its settings and the steps it builds on, named by one hash of all three."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from divulge.errors import BadInputError
from divulge.settings import canonical, fingerprint


@dataclass(frozen=True, eq=False)
class Artifact:
    """What a step returns and a store keeps.

    Args:
        arrays: NumPy arrays or tensors by name; a store gives them back as NumPy arrays of the same dtype.
        facts: finite numbers, text, booleans, None, and lists and mappings of these; a store writes them as JSON.
    """

    arrays: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Context:
    """What a step may use that is no part of its result's identity.

    Args:
        values: what the step was given as `context`: folders, a device, a model that is already in memory.
        progress: tells how much of the step is done, 0 to 1; cheap enough to call after every batch.
        unfinished: a folder for what lets a killed step go on, which outlives it and goes once its result is stored;
            made by whoever writes into it. None where nothing is kept.
    """

    values: Mapping[str, Any]
    progress: Callable[[float], None]
    unfinished: Path | None = None


Run = Callable[[Any, dict[str, Artifact], Context], Artifact]


@dataclass(frozen=True, eq=False)
class Step:
    """One node of a run's graph.

    The key hashes the function's name, its version, the settings and the keys of the inputs with their names and order.
    Neither `context`, `label` nor `cost` is part of it.

    Args:
        run: a function at the top level of a module, called as `run(settings, inputs, context)` with a `Context`. Its
            inputs are read from the store, so they are the same whether computed just now or long ago.
        settings: a mapping of plain values, or a dataclass. A mapping is copied.
        inputs: the steps whose artifacts `run` receives, by name.
        version: raise it whenever `run` changes its result; what older versions left is then computed again.
        label: what to call the step on the terminal and in errors; the function's name if left out.
        context: values for `run` that cannot change the result, such as where the data lies.
        cost: expected duration in any unit; of steps that could start, the costliest starts first.

    Raises:
        BadInputError: `run` is a lambda, a method or a local function, which have no name that stays the same; or
            settings without a stable written form.

    Example:
        >>> def double(settings, inputs, context):
        ...     return Artifact(facts={"value": 2 * settings["value"]})
        >>> step = Step(double, {"value": 21})
        >>> step.key == Step(double, {"value": 21}, context={"data_dir": "/data"}).key
        True
        >>> step.key == Step(double, {"value": 21}, version=2).key
        False
    """

    run: Run
    settings: Any
    inputs: Mapping[str, "Step"] = field(default_factory=dict)
    version: int = 1
    label: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)
    cost: float = 1.0
    key: str = field(init=False)
    input_keys: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        if isinstance(self.settings, Mapping):
            object.__setattr__(self, "settings", copy.deepcopy(dict(self.settings)))
        object.__setattr__(self, "input_keys", {name: step.key for name, step in self.inputs.items()})
        identity = {
            "function": self.function,
            "version": self.version,
            "settings": canonical(self.settings),
            "inputs": list(self.input_keys.items()),
        }
        object.__setattr__(self, "key", fingerprint(identity))

    @property
    def function(self) -> str:
        """Where the function lives: `module:name`."""
        module, name = getattr(self.run, "__module__", ""), getattr(self.run, "__qualname__", "")
        if not module or not name.isidentifier():
            raise BadInputError(
                f"step {self.label!r}: expected a function defined at the top level of a module, got {self.run!r}. "
                "Lambdas, methods and local functions have no name that another run could trust."
            )
        return f"{module}:{name}"

    @property
    def title(self) -> str:
        """What to call the step in front of a person."""
        return self.label or self.run.__qualname__

    def alone(self) -> "Step":
        """The same step, same key, without the graph behind it: all that another process needs."""
        step = copy.copy(self)
        object.__setattr__(step, "inputs", {})
        return step
