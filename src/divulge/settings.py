"""Settings are frozen dataclasses; one schema serves Python, TOML and the command line."""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from divulge.errors import BadInputError

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Make the settings dataclass `cls` out of a mapping that comes from outside.

    Args:
        cls: a dataclass.
        values: field values as TOML or JSON gives them; lists become tuples where the field is one, and the word
            `none` None where that is meant, since TOML has no other way to say it.
        where: what to call the source in an error, such as a file name.

    Raises:
        BadInputError: a key that `cls`, or a dataclass among its fields, does not have (the nearest known key is
            named), a missing one, or a value of the wrong type.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Thing:
        ...     epochs: int = 3
        ...     patience: int | None = 5
        >>> build(Thing, {"epochs": 5, "patience": "none"})
        Thing(epochs=5, patience=None)
        >>> build(Thing, {"epoch": 5})
        Traceback (most recent call last):
        ...
        divulge.errors.BadInputError: Thing has no setting 'epoch'; the nearest is 'epochs'. It has: epochs, patience.
    """
    from pydantic import TypeAdapter, ValidationError

    label = f"{where}: {cls.__name__}" if where else cls.__name__
    meant = _meant(cls, values, label)
    try:
        return TypeAdapter(cls).validate_python(meant)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInputError(f"{label}, setting {place!r}: {first['msg']}; got {first['input']!r}.") from None


def _meant(hint: Any, value: Any, label: str) -> Any:
    """A value from outside with None for `none`, where the keys of every table are known ones."""
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        known = [field.name for field in dataclasses.fields(hint) if field.init]
        for key in value:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                told = f"; the nearest is {near[0]!r}" if near else ""
                raise BadInputError(f"{label} has no setting {key!r}{told}. It has: {', '.join(known) or 'none'}.")
        hints = get_type_hints(hint)
        return {key: _meant(hints[key], one, f"{label}, setting {key!r}") for key, one in value.items()}
    inner = get_args(hint)
    if type(None) in inner:
        if value == "none" and str not in inner:
            return None
        tables = [one for one in inner if dataclasses.is_dataclass(one)]
        return _meant(tables[0], value, label) if len(tables) == 1 else value
    if isinstance(value, (list, tuple)) and get_origin(hint) in (list, tuple):
        kinds = inner if len(inner) == len(value) and inner[-1] is not ... else inner[:1] * len(value)
        return [_meant(kind, one, label) for kind, one in zip(kinds, value, strict=True)]
    if isinstance(value, Mapping) and get_origin(hint) is dict:
        return {key: _meant(inner[1], one, f"{label}, setting {key!r}") for key, one in value.items()}
    return value


def labelled(name: str, values: Any) -> str:
    """A name with those settings of a dataclass that are not the defaults, such as `top-k (k=1)`."""
    told = [
        f"{field.name}={getattr(values, field.name)}"
        for field in dataclasses.fields(values)
        if getattr(values, field.name) != field.default
    ]
    return f"{name} ({', '.join(told)})" if told else name


def canonical(value: Any) -> Any:
    """Turn settings into plain JSON values, the same for equal settings, dataclasses marked by their type's name.

    Fields declared with `compare=False` are no part of a dataclass's identity and are left out.

    Raises:
        BadInputError: a value with no stable written form, such as a function or a tensor.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field for field in dataclasses.fields(value) if field.compare]
        named = {field.name: canonical(getattr(value, field.name)) for field in fields}
        return {"type": type(value).__name__, **named}
    if isinstance(value, Mapping):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(canonical(item) for item in value)
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise BadInputError(f"settings hold a {type(value).__name__}, which has no stable written form; use plain values.")


def fingerprint(value: Any) -> str:
    """Hash settings to 20 hexadecimal digits, the same on every machine for equal settings.

    Example:
        >>> fingerprint({"a": 1, "b": (2, 3)}) == fingerprint({"b": [2, 3], "a": 1})
        True
    """
    written = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(written.encode()).hexdigest()[:20]
