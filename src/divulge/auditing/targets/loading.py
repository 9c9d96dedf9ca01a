"""Models for the command line: a factory in a Python file, and weights that cannot run code."""

import contextlib
import hashlib
import importlib.util
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from divulge.errors import BadInputError

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep a state dict next to other things."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""

UNIQUE = "_divulge_model_"
"""How the names begin under which files of a person are imported."""

PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin")


def load_module(spec: str, weights: Path | None = None) -> nn.Module:
    """A torch module from `path/to/file.py:factory` and, unless the factory loads them itself, a file of weights.

    Args:
        spec: a Python file and a function (or class) in it that takes no arguments and returns the module.
        weights: `.safetensors`, or what `torch.save(model.state_dict(), ...)` writes.

    Raises:
        BadInputError: see `load_model`; or the factory returns something else.
    """
    model = load_model(spec, weights)
    if not isinstance(model, nn.Module):
        raise BadInputError(f"{spec}: expected a factory that returns a torch.nn.Module, got {type(model).__name__}.")
    return model


def load_model(spec: str, weights: Path | None = None) -> Any:
    """A model from `path/to/file.py:factory`: a torch module, a fitted scikit-learn classifier or a callable.

    The file may import its neighbors; neither it nor they stay in `sys.modules`.

    Args:
        spec: a Python file and a function (or class) in it that takes no arguments and returns the model.
        weights: for a torch module, `.safetensors` or what `torch.save(model.state_dict(), ...)` writes.

    Raises:
        BadInputError: no such file or factory, one that raises or returns no model, or weights that do not fit.
    """
    model = _made(spec)
    if isinstance(model, nn.Module):
        if weights is not None:
            load_weights(model, weights)
    elif weights is not None:
        raise BadInputError(
            f"{spec} returns a {type(model).__name__}, and weights belong to a torch module. Leave the weights out and "
            "let the factory return the fitted model."
        )
    elif not (callable(model) or hasattr(model, "predict_proba") or hasattr(model, "decision_function")):
        raise BadInputError(
            f"{spec}: expected a factory that returns a torch.nn.Module, a fitted scikit-learn classifier or a "
            f"callable, got {type(model).__name__}."
        )
    return model


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill `model` with the weights in a file; every name and shape must fit.

    Raises:
        BadInputError: the file is missing, damaged, a pickle of more than tensors, or of another architecture.
    """
    state = _unwrapped(_read(path), path)
    own = model.state_dict()
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state) and not all(key.startswith(prefix) for key in own):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    troubles = [
        _listed("lacks", [f"{key} {tuple(own[key].shape)}" for key in own if key not in state]),
        _listed("has unknown", [f"{key} {tuple(state[key].shape)}" for key in state if key not in own]),
        _listed(
            "has another shape of",
            [
                f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
                for key in own
                if key in state and state[key].shape != own[key].shape
            ],
        ),
    ]
    told = "; ".join(trouble for trouble in troubles if trouble)
    if told:
        raise BadInputError(
            f"{path} does not fit {type(model).__name__}: it {told}. Build the architecture that these weights were "
            "saved from."
        )
    model.load_state_dict(state)


def _made(spec: str) -> Any:
    written, _, factory = spec.rpartition(":")
    if Path(spec).suffix in PICKLES or Path(written).suffix in PICKLES:
        raise BadInputError(
            f"{spec}: this is a pickle, which can run any code when it is read, and is never loaded. Write a file.py "
            "with a function build() that returns the model (and loads this file, if you trust it), and give "
            "file.py:build."
        )
    path = Path(written)
    if not factory.isidentifier() or path.suffix != ".py":
        raise BadInputError(f"model: expected path/to/file.py:factory, got {spec!r}.")
    if not path.is_file():
        raise BadInputError(f"model: there is no file {path}.")
    with _importing(path.resolve().parent):
        build = _factory(path.resolve(), factory, spec)
        try:
            return build()
        except Exception as error:
            raise BadInputError(
                f"factory {spec}, called without arguments, raised {type(error).__name__}: {error}"
            ) from error


def _factory(path: Path, factory: str, spec: str) -> Callable[[], Any]:
    name = f"{UNIQUE}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise BadInputError(f"model: {path} cannot be imported.")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses look themselves up there while the file runs
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise BadInputError(f"{path} could not be imported: {type(error).__name__}: {error}") from error
    build = getattr(module, factory, None)
    if not callable(build):
        own = [
            key for key, value in vars(module).items() if callable(value) and getattr(value, "__module__", "") == name
        ]
        raise BadInputError(f"{spec}: {path.name} has no function {factory!r}. It has: {', '.join(own) or 'none'}.")
    return build


@contextlib.contextmanager
def _importing(folder: Path) -> Iterator[None]:
    """Let files of `folder` import each other inside the block, and leave `sys.path` and `sys.modules` as they were.

    Modules of the same names that were loaded from elsewhere step aside in the meantime.
    """
    siblings = {path.name: path for path in folder.iterdir() if path.is_dir()}
    siblings |= {path.parent.name: path for path in folder.glob("*/__init__.py")}
    siblings |= {path.stem: path for path in folder.glob("*.py")}
    aside = {name: module for name, module in sys.modules.items() if _hides(name, siblings)}
    path, before = list(sys.path), {_top(name) for name in sys.modules if name not in aside}
    for name in aside:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        for name in list(sys.modules):
            if _top(name) not in before and (_top(name) in siblings or _top(name).startswith(UNIQUE)):
                del sys.modules[name]
        sys.modules.update(aside)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _hides(name: str, siblings: Mapping[str, Path]) -> bool:
    """Whether a loaded module would be found in the place of another one in the folder."""
    top = _top(name)
    if top not in siblings or siblings[top].is_dir() or top in sys.stdlib_module_names:
        return False
    return getattr(sys.modules.get(top), "__file__", None) != str(siblings[top])


def _read(path: Path) -> Any:
    if not path.is_file():
        raise BadInputError(f"weights: there is no file {path}.")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise BadInputError(
                f"{path} is no safetensors file, or a damaged one: {error}. Save the weights again."
            ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, AttributeError, IndexError) as error:
        raise BadInputError(
            f"{path} cannot be read as weights: it is damaged, or a pickle of more than tensors, which can run any "
            "code when it is read, and is never loaded. Where you trust it, load the model in Python and write "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
        ) from error


def _unwrapped(state: Any, path: Path) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        held = (
            f"keys {', '.join(map(str, list(state)[:5]))}"
            if isinstance(state, Mapping)
            else f"a {type(state).__name__}"
        )
        raise BadInputError(
            f"{path}: expected a state dict, names to tensors, possibly under {' or '.join(WRAPPERS)}; got {held}. "
            "Save model.state_dict()."
        )
    return dict(state)


def _listed(verb: str, items: list[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return f"{verb} {len(items)}: {', '.join(items[:5])}{more}"
