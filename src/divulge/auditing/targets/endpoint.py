"""The target as a model behind HTTP that speaks the Open Inference Protocol, version 2, in JSON."""

import math
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from divulge import settings
from divulge.auditing.targets.answers import PROBE, examine
from divulge.auditing.targets.base import Target
from divulge.auditing.targets.client import TOKEN, Client, token
from divulge.errors import BadInputError, EndpointError
from divulge.releases import Posteriors

FLOATS = ("FP32", "FP64")


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers, and how to ask it.

    The protocol: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol. A secret goes into
    the environment variable `DIVULGE_ENDPOINT_TOKEN`; it is sent as a bearer token and written nowhere.

    Args:
        url: the server, `http://host:port` or `https://...`, with the path before `/v2` if there is one.
        model: name of the model on it.
        version: which version; the server's choice if empty.
        input: name of the input tensor, where the model has several.
        output: name of the output tensor, where several could be posteriors.
        batch_size: records a request.
        timeout: seconds to wait for an answer.
        attempts: how often to ask before giving up, with pauses that double.
        pause: seconds before the second attempt.

    Raises:
        BadInputError: a URL of another scheme or with a secret in it, or a number out of range.
    """

    url: str
    model: str
    version: str = ""
    input: str = ""
    output: str = ""
    batch_size: int = 64
    timeout: float = 30.0
    attempts: int = 5
    pause: float = 0.5

    def __post_init__(self) -> None:
        try:
            parts = urllib.parse.urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise BadInputError(
                f"endpoint: expected a URL such as http://localhost:8000, got one with {error}."
            ) from None
        plain = self.url.isascii() and self.url.isprintable() and " " not in self.url
        if parts.scheme not in ("http", "https") or not host or port == 0 or not plain:
            raise BadInputError(
                f"endpoint: expected http://host:port or https://host, got {parts.scheme or 'no'} scheme."
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise BadInputError(
                f"endpoint: expected a URL without user, password, query or fragment. Put a secret into {TOKEN}."
            )
        if not self.model:
            raise BadInputError("endpoint: expected the name of a model on the server.")
        if self.batch_size < 1 or self.attempts < 1 or not self.timeout > 0 or not self.pause >= 0:
            raise BadInputError(
                "endpoint: expected batch_size and attempts of 1 or more, timeout above 0 and pause of 0 or more, got "
                f"{self.batch_size}, {self.attempts}, {self.timeout}, {self.pause}."
            )

    @property
    def base(self) -> str:
        """The URL without a trailing slash."""
        return self.url.rstrip("/")

    @property
    def path(self) -> str:
        """The path of the model on the server."""
        version = f"/versions/{urllib.parse.quote(self.version, safe='')}" if self.version else ""
        return f"/v2/models/{urllib.parse.quote(self.model, safe='')}{version}"


@dataclass(frozen=True)
class Tensors:
    """How the model wants records, from its metadata and the records' shape.

    Args:
        name: of the input tensor.
        datatype: `FP32` or `FP64`.
        shape: of one record as it is sent.
        batch_size: records a request.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    batch_size: int


def endpoint_target(
    endpoint: Endpoint,
    *,
    classes: int,
    probe: Tensor,
    logits: bool | None = None,
    name: str = "",
    budget: int | None = None,
) -> Target:
    """A model behind an HTTP endpoint as a target.

    Args:
        endpoint: where and how.
        classes: how many classes the records have.
        probe: a few records to try it on, float32 `(n, *shape)`.
        logits: whether it returns logits; found out if None.
        name: what to call it; the model's name and host if empty.
        budget: how many records it may be asked about, the probe included. A record that has to be sent again because
            the server failed counts once.

    Raises:
        EndpointError: no answer, or none that the protocol allows.
        BadInputError: the model wants other records, or `examine` finds its answers unusable.
    """
    client = Client(endpoint.base, timeout=endpoint.timeout, attempts=endpoint.attempts, pause=endpoint.pause)
    client.ready()
    metadata = client.get(endpoint.path)
    if not isinstance(metadata, Mapping):
        raise EndpointError(f"{endpoint.base}: expected metadata of model {endpoint.model!r} as a JSON object.")
    tensors, notes = _tensors(endpoint, metadata, tuple(probe.shape[1:]))

    def ask(records: Tensor) -> np.ndarray:
        return np.concatenate(
            [_infer(client, endpoint, tensors, batch, classes) for batch in records.split(tensors.batch_size)]
        )

    examined = examine(
        ask, probe[:PROBE], classes=classes, logits=logits, budget=budget, hint="The server may batch records together."
    )
    reading = examined.reading
    release = Posteriors(
        lambda batch: reading.table(ask(batch)).double(),
        classes=classes,
        logits=reading.logits,
        batch_size=tensors.batch_size,
        budget=budget,
    )
    release.queries = examined.asked
    parts = urllib.parse.urlsplit(endpoint.url)
    if parts.scheme == "http" and token() and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        notes += ("its token travels unencrypted, over http",)
    return Target(
        name=name or f"{endpoint.model} at {parts.netloc}",
        kind="model behind an HTTP endpoint",
        release=release,
        fingerprint=settings.fingerprint([endpoint.base, endpoint.model, endpoint.version, endpoint.output, logits]),
        notes=(*notes, *examined.notes),
    )


def _tensors(
    endpoint: Endpoint, metadata: Mapping[str, Any], record: tuple[int, ...]
) -> tuple[Tensors, tuple[str, ...]]:
    """Match the model's input to the records."""
    where = f"{endpoint.base}, model {endpoint.model!r}"
    inputs = metadata.get("inputs") or []
    if not isinstance(inputs, list) or not all(isinstance(tensor, Mapping) and _sizes(tensor) for tensor in inputs):
        raise EndpointError(f"{where}: expected metadata with a list of inputs with shapes, got {_shown(inputs)}.")
    names = [str(tensor.get("name")) for tensor in inputs]
    if not inputs:
        return Tensors(endpoint.input or "input-0", "FP32", record, endpoint.batch_size), ()
    if (len(inputs) > 1 and not endpoint.input) or (endpoint.input and endpoint.input not in names):
        wanted = f"an input {endpoint.input!r}" if endpoint.input else "one input"
        raise EndpointError(f"{where}: expected {wanted}, it has {_shown(names)}. Say which (input=...).")
    chosen = inputs[names.index(endpoint.input) if endpoint.input else 0]
    name, datatype = str(chosen.get("name")), str(chosen.get("datatype", "FP32"))
    if datatype not in FLOATS:
        raise BadInputError(
            f"{where}: input {name!r} takes {datatype}, and records are {' or '.join(FLOATS)} (pixels in [0, 1]). Put "
            "the conversion into the served model."
        )
    shape = chosen["shape"]
    batch_size = 1 if shape[0] == 1 else endpoint.batch_size
    if len(shape) == len(record) + 1 and all(want in (-1, have) for want, have in zip(shape[1:], record, strict=True)):
        return Tensors(name, datatype, record, batch_size), ()
    if min(shape[1:], default=-1) > 0 and math.prod(shape[1:]) == math.prod(record):
        sent = tuple(shape[1:])
        return Tensors(name, datatype, sent, batch_size), (
            f"records of shape {record} were sent as {sent}, as it asks",
        )
    raise BadInputError(
        f"{where}: input {name!r} expects records of shape {tuple(shape[1:])} (-1: any), the records have {record}. "
        "Give the records that the model was trained on."
    )


def _infer(client: Client, endpoint: Endpoint, tensors: Tensors, records: Tensor, classes: int) -> np.ndarray:
    """What the model answers on one batch, float64."""
    body: dict[str, Any] = {
        "inputs": [
            {
                "name": tensors.name,
                "shape": [len(records), *tensors.shape],
                "datatype": tensors.datatype,
                "data": records.reshape(-1).tolist(),
            }
        ]
    }
    if endpoint.output:
        body["outputs"] = [{"name": endpoint.output}]
    reply = client.post(f"{endpoint.path}/infer", body)
    where = f"{endpoint.base}, model {endpoint.model!r}"
    outputs = reply.get("outputs") if isinstance(reply, Mapping) else None
    if not isinstance(outputs, list) or not all(isinstance(output, Mapping) for output in outputs):
        raise EndpointError(f"{where}: expected a JSON object with a list `outputs`, got {_shown(reply)}.")
    chosen = _chosen(where, endpoint.output, outputs, rows=len(records), classes=classes)
    if "data" not in chosen:
        raise EndpointError(
            f"{where}: output {chosen.get('name')!r} has no `data`. Binary replies are not read: answer in JSON."
        )
    try:
        return np.asarray(chosen["data"], dtype=np.float64).reshape(chosen["shape"])
    except (TypeError, ValueError, OverflowError) as error:
        raise EndpointError(
            f"{where}: output {chosen.get('name')!r} of shape {_shown(chosen['shape'])} holds data that are no such "
            f"array of numbers: {error}."
        ) from None


def _chosen(where: str, name: str, outputs: list[Any], *, rows: int, classes: int) -> Mapping[str, Any]:
    """The output with the posteriors: the named one, or the only one of fitting shape and floating-point type."""
    wanted = [[rows, classes], *([[rows, 1], [rows]] if classes == 2 else [])]
    named = [output for output in outputs if output.get("name") == name] if name else outputs
    fitting = [
        output
        for output in named
        if output.get("shape") in wanted and str(output.get("datatype", "FP32")).startswith(("FP", "BF"))
    ]
    if len(fitting) != 1:
        held = ", ".join(
            f"{_shown(o.get('name'))} {_shown(o.get('datatype'))} {_shown(o.get('shape'))}" for o in outputs[:5]
        )
        what = f"an output {name!r}" if name else "one output"
        raise EndpointError(
            f"{where}: expected {what} of floating-point numbers and shape [{rows}, {classes}], a row for each record "
            f"and a column for each class, got {held or 'none'}. Say which is meant (output=...)."
        )
    return fitting[0]


def _sizes(tensor: Mapping[str, Any]) -> bool:
    shape = tensor.get("shape")
    return isinstance(shape, list) and bool(shape) and all(isinstance(size, int) for size in shape)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
