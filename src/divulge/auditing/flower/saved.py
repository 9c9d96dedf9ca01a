"""Captured records on disk: safetensors and JSON, each round whole or not there."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from divulge.errors import BadInputError
from divulge.training.federated import Capture
from divulge.training.federated.capture import read, written

FACTS = "captures"
"""Name of the header entry of a file that holds the facts as JSON."""


def save_captures(captures: Sequence[Capture], folder: Path) -> Path:
    """Write the captures of one round into a file of `folder`, under a temporary name first."""
    from safetensors.torch import save

    tensors, facts = written(captures)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"round-{captures[0].round:06d}.safetensors"
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(save({name: value.contiguous() for name, value in tensors.items()}, {FACTS: json.dumps(facts)}))
        file.flush()
        os.fsync(file.fileno())
    return partial.replace(path)


def load_captures(folder: Path) -> list[Capture]:
    """What `save_captures` left in a folder, by round.

    Raises:
        BadInputError: nothing there, or a file that holds no captures.
    """
    from safetensors import SafetensorError, safe_open

    paths = sorted(folder.glob("round-*.safetensors"))
    if not paths:
        raise BadInputError(f"{folder}: expected the saved rounds of a federated run, got none.")
    captures = []
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})[FACTS])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError) as error:
            raise BadInputError(f"{path}: expected a saved round of a federated run, got {error}.") from error
        captures += read(tensors, facts)
    return captures
