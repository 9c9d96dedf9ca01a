"""Targets behind HTTP, against a real local server for the Open Inference Protocol that can be told to misbehave."""

import json
import math
import threading
import time
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from torch import nn

from divulge.auditing.targets import Endpoint, as_target
from divulge.auditing.targets.client import TOKEN
from divulge.errors import BadInputError, EndpointError
from divulge.models import seeded


class Server(ThreadingHTTPServer):
    """Serves one small model; `faults` are given out before answers, one a request for inference."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        with seeded(0):
            self.model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
        self.shape = [-1, 1, 4, 4]
        self.datatype = "FP32"
        self.metadata = None
        self.answers = lambda x: self.model(x).softmax(1)
        self.outputs = lambda table: [{"name": "probabilities", "shape": list(table.shape), "datatype": "FP32"}]
        self.faults = []
        self.unready = 0
        self.healthy = True
        self.moved = None
        self.asked = []
        self.seen = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.seen.append(("GET", self.path, dict(self.headers)))
        if self.path == "/v2/health/ready":
            if self.server.unready:
                self.server.unready -= 1
                self.say(503, {"error": "loading"})
            else:
                self.say(200 if self.server.healthy else 404, {})
        elif self.server.moved:
            status, place = self.server.moved
            self.say(status, b"", Location=place + self.path)
        elif self.path in ("/v2/models/digits", "/v2/models/digits/versions/2"):
            inputs = [{"name": "images", "datatype": self.server.datatype, "shape": self.server.shape}]
            plain = {"name": "digits", "versions": ["2"], "platform": "torch", "inputs": inputs, "outputs": []}
            self.say(200, plain if self.server.metadata is None else self.server.metadata)
        else:
            self.say(404, {"error": f"no model at {self.path}"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(("POST", self.path, dict(self.headers)))
        if self.server.faults:
            fault = self.server.faults.pop(0)
            if fault is not None:
                fault(self, body)
                return
        (tensor,) = body["inputs"]
        assert self.path in ("/v2/models/digits/infer", "/v2/models/digits/versions/2/infer")
        assert (tensor["name"], tensor["datatype"]) == ("images", self.server.datatype)
        assert math.prod(tensor["shape"]) == len(tensor["data"])
        self.server.asked.append(tensor["shape"])
        with torch.no_grad():
            table = self.server.answers(torch.tensor(tensor["data"]).reshape(tensor["shape"]))
        outputs = self.server.outputs(table)
        for output in outputs:
            output.setdefault("data", table.reshape(-1).tolist())
        wanted = {output["name"] for output in body.get("outputs", [])}
        outputs = [output for output in outputs if not wanted or output["name"] in wanted]
        self.say(200, {"model_name": "digits", "outputs": outputs})

    def say(self, code, content, **headers):
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(raw)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


def code(number, content=b"", **headers):
    return lambda handler, body: handler.say(number, content, **headers)


def drop(handler, body):
    handler.close_connection = True
    handler.connection.close()


def truncated(handler, body, *, status=200):
    handler.send_response(status)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"outputs": [')
    handler.wfile.flush()
    handler.close_connection = True


def slow(handler, body):
    time.sleep(0.5)
    handler.say(200, {})


def outputs(**change):
    """A correct answer about every record, but for `change`."""

    def answer(handler, body):
        rows = body["inputs"][0]["shape"][0]
        output = {"name": "p", "shape": [rows, 3], "datatype": "FP32", "data": [0.2, 0.3, 0.5] * rows} | change
        handler.say(200, {"outputs": [{key: value for key, value in output.items() if value is not ...}]})

    return answer


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(TOKEN, raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def records():
    return torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def endpoint(server, **settings):
    return Endpoint(server.url, "digits", **{"pause": 0.005, "timeout": 5.0, **settings})


def target_of(server, records, *, budget=None, logits=None, **settings):
    return as_target(endpoint(server, **settings), classes=3, probe=records, budget=budget, logits=logits)


def test_posteriors_over_http_are_those_of_the_model(server, records):
    target = target_of(server, records, batch_size=8)
    logits = target.release.logits(records)
    assert np.allclose(np.exp(logits), server.model(records).softmax(1).detach(), atol=1e-6)
    assert [shape[0] for shape in server.asked] == [8, 1, 1, 8, 8, 4]
    assert target.release.queries == 10 + 20
    assert (target.kind, target.module) == ("model behind an HTTP endpoint", None)
    assert target.name == f"digits at 127.0.0.1:{server.server_port}"
    assert [path for _, path, _ in server.seen[:3]] == [
        "/v2/health/ready",
        "/v2/models/digits",
        "/v2/models/digits/infer",
    ]


def test_logits_nested_data_and_a_version(server, records):
    server.answers = server.model
    server.outputs = lambda table: [
        {"name": "z", "shape": list(table.shape), "datatype": "FP64", "data": table.tolist()}
    ]
    target = target_of(server, records, version="2")
    assert target.release.gives_logits
    assert np.allclose(target.release.logits(records), server.model(records).detach())
    assert all("/versions/2" in path for _, path, _ in server.seen[1:])


def test_records_are_reshaped_where_the_model_wants_them_flat(server, records):
    server.shape = [-1, 16]
    target = target_of(server, records)
    target.release.logits(records)
    assert server.asked[-1] == [20, 16]
    assert any("sent as (16,)" in note for note in target.notes)


def test_a_batch_dimension_of_one_is_kept(server, records):
    server.shape = [1, 1, 4, 4]
    target = target_of(server, records)
    target.release.logits(records[:3])
    assert {shape[0] for shape in server.asked} == {1}


def test_a_server_without_input_metadata_or_health_is_asked_all_the_same(server, records):
    server.metadata = {"name": "digits"}
    server.healthy = False
    target = target_of(server, records, input="images")
    assert target.release.logits(records).shape == (20, 3)


def test_two_classes_by_one_number(server, records):
    server.answers = lambda x: server.model(x)[:, :1].sigmoid()
    target = as_target(endpoint(server), classes=2, probe=records)
    posteriors = np.exp(target.release.logits(records))
    assert np.allclose(posteriors[:, 1], server.model(records)[:, 0].sigmoid().detach(), atol=1e-6)


def test_the_output_is_the_only_fitting_one_or_the_named(server, records):
    def several(table):
        embedding = {"name": "embedding", "shape": [len(table), 2], "datatype": "FP32", "data": [0.0] * 2 * len(table)}
        label = {"name": "label", "shape": [len(table), 3], "datatype": "INT64", "data": [0] * 3 * len(table)}
        return [embedding, label, {"name": "p", "shape": list(table.shape), "datatype": "FP32"}]

    server.outputs = several
    assert target_of(server, records).release.logits(records).shape == (20, 3)
    server.outputs = lambda table: [*several(table), {"name": "q", "shape": list(table.shape), "datatype": "FP32"}]
    with pytest.raises(EndpointError, match=r"expected one output .*'p' 'FP32' \[8, 3\], 'q' 'FP32' .*output=\.\.\."):
        target_of(server, records)
    assert target_of(server, records, output="q").release.logits(records).shape == (20, 3)
    with pytest.raises(EndpointError, match="expected an output 'embedding' of floating-point numbers"):
        target_of(server, records, output="embedding")


RECOVERED = {
    "503": [code(503, {"error": "busy"})],
    "429, then 500": [code(429, b"slow down", Retry_After="0"), code(500)],
    "a date to wait for": [code(503, b"", Retry_After=formatdate(time.time() - 5, usegmt=True))],
    "a wait in other words": [code(503, b"", Retry_After="soon")],
    "dropped": [drop, drop],
    "truncated": [truncated],
    "later": [None, None, None, code(502), code(504)],
}


@pytest.mark.parametrize("case", RECOVERED)
def test_passing_trouble_is_waited_out(case, server, records):
    server.unready = 2
    server.faults = list(RECOVERED[case])
    target = target_of(server, records)
    assert np.allclose(np.exp(target.release.logits(records)), server.model(records).softmax(1).detach(), atol=1e-6)
    assert not server.faults
    assert target.release.queries == 10 + 20, "a batch sent twice counts once"


def test_a_slow_answer_is_asked_for_again(server, records):
    server.faults = [slow]
    assert target_of(server, records, timeout=0.1).release.logits(records[:2]).shape == (2, 3)


def test_retry_after_is_respected(server, records):
    server.faults = [code(503, b"", Retry_After="1")]
    started = time.monotonic()
    target_of(server, records, pause=0.0)
    assert time.monotonic() - started >= 1


REFUSED = {
    "always 503": (
        [code(503, {"error": "no capacity"})] * 3,
        EndpointError,
        "given up after 3 attempts.*HTTP 503: no capacity",
    ),
    "always dropped": ([drop] * 3, EndpointError, "given up after 3 attempts"),
    "always slow": ([slow] * 3, EndpointError, r"no answer within 0\.1 s"),
    "a long wait": ([code(429, b"", Retry_After="3600")], EndpointError, r"asks to wait 3,600 s \(HTTP 429\)"),
    "bad request": (
        [code(400, {"error": "batch too\n large" + "!" * 999})],
        EndpointError,
        r"infer refuses: HTTP 400: batch too large!+\.\.\.$",
    ),
    "bad request, cut off": (
        [partial(truncated, status=400)],
        EndpointError,
        "infer refuses: HTTP 400",
    ),
    "forbidden": ([code(403, b"no")], EndpointError, f"refuses access .HTTP 403: no.*{TOKEN}"),
    "redirect": (
        [code(307, b"", Location="http://elsewhere.invalid/v2")],
        EndpointError,
        "redirects to http://elsewhere.invalid/v2, which is not followed",
    ),
    "no JSON": ([code(200, b"<html>hello</html>")], EndpointError, "expected JSON, got '<html>hello</html>'"),
    "no bytes": ([code(200, b"")], EndpointError, "expected JSON, got ''"),
    "no object": ([code(200, [1, 2])], EndpointError, r"a list `outputs`, got \[1, 2\]"),
    "no outputs": ([code(200, {"outputs": None})], EndpointError, "a list `outputs`"),
    "no list of outputs": ([code(200, {"outputs": ["p"]})], EndpointError, "a list `outputs`"),
    "empty outputs": ([code(200, {"outputs": []})], EndpointError, "got none"),
    "other classes": ([outputs(shape=[8, 5])], EndpointError, r"shape \[8, 3\], .*got 'p' 'FP32' \[8, 5\]"),
    "other rows": ([outputs(shape=[2, 3])], EndpointError, r"got 'p' 'FP32' \[2, 3\]"),
    "labels": ([outputs(datatype="INT64")], EndpointError, "floating-point numbers"),
    "strings": ([outputs(datatype="BYTES")], EndpointError, "floating-point numbers"),
    "too little data": ([outputs(data=[0.2, 0.3])], EndpointError, "no such array of numbers"),
    "ragged data": ([outputs(data=[[0.1], [0.2, 0.3]])], EndpointError, "no such array of numbers"),
    "text data": ([outputs(data="abc")], EndpointError, "no such array of numbers"),
    "null data": ([outputs(data=[None] * 24)], BadInputError, "NaN or infinity for 8 of 8 records"),
    "binary data": ([outputs(data=...)], EndpointError, "Binary replies are not read"),
    "no shape": ([outputs(shape=...)], EndpointError, "got 'p' 'FP32' None"),
    "NaN": ([outputs(data=[float("nan")] * 24)], BadInputError, "NaN or infinity for 8 of 8 records"),
    "unnormalized": ([outputs(data=[0.5] * 24)], BadInputError, "expected rows of 0 or more that sum to 1"),
    "another answer alone": (
        [None, outputs(), outputs(), outputs(), outputs()],
        BadInputError,
        "depends on the records asked with it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_protocol_does_not_allow_is_refused(case, server, records):
    faults, kind, message = REFUSED[case]
    server.faults = list(faults)
    with pytest.raises(kind, match=message) as caught:
        target_of(server, records, attempts=3, timeout=0.1 if "slow" in case else 5)
    assert len(str(caught.value)) < 700


METADATA = {
    "no object": ([1], EndpointError, "as a JSON object"),
    "inputs of no form": ({"inputs": {"a": 1}}, EndpointError, "a list of inputs with shapes"),
    "a shape of no form": ({"inputs": [{"name": "x", "shape": "big"}]}, EndpointError, "a list of inputs with shapes"),
    "two inputs": (
        {"inputs": [{"name": "x", "shape": [-1]}, {"name": "y", "shape": [-1]}]},
        EndpointError,
        r"expected one input, it has \['x', 'y'\]",
    ),
    "bytes": (
        {"inputs": [{"name": "x", "datatype": "UINT8", "shape": [-1, 1, 4, 4]}]},
        BadInputError,
        "'x' takes UINT8, and records are FP32",
    ),
    "other records": (
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 4, 4]}]},
        BadInputError,
        r"expects records of shape \(3, 4, 4\) .* the records have \(1, 4, 4\)",
    ),
    "other rank": (
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]},
        BadInputError,
        r"expects records of shape \(-1,\)",
    ),
}


@pytest.mark.parametrize("case", METADATA)
def test_metadata_that_does_not_fit_is_refused(case, server, records):
    server.metadata, kind, message = METADATA[case]
    with pytest.raises(kind, match=message):
        target_of(server, records)
    assert not server.asked


@pytest.fixture
def elsewhere(server):
    other = Server()
    thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield other
    other.shutdown()
    thread.join()
    other.server_close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_is_sent_where_a_redirect_points(status, server, elsewhere, records, monkeypatch):
    monkeypatch.setenv(TOKEN, "s3cret")
    server.moved = (status, elsewhere.url)
    with pytest.raises(EndpointError, match=f"redirects to {elsewhere.url}/v2/models/digits, which is not followed"):
        target_of(server, records)
    server.moved = None
    server.faults = [code(status, b"", Location=f"{elsewhere.url}/v2/models/digits/infer")]
    with pytest.raises(EndpointError, match="which is not followed"):
        target_of(server, records)
    assert not elsewhere.seen


def test_an_input_that_is_not_there(server, records):
    with pytest.raises(EndpointError, match=r"expected an input 'pixels', it has \['images'\]"):
        target_of(server, records, input="pixels")


def test_an_unknown_model_is_named_with_the_servers_words(server, records):
    with pytest.raises(EndpointError, match=r"/v2/models/letters refuses: HTTP 404: no model at /v2/models/letters"):
        as_target(Endpoint(server.url, "letters"), classes=3, probe=records)


def test_a_model_name_cannot_leave_its_place_in_the_path(server, records):
    with pytest.raises(EndpointError, match="404"):
        as_target(Endpoint(server.url, "../health/ready?x=#y"), classes=3, probe=records)
    assert server.seen[-1][1] == "/v2/models/..%2Fhealth%2Fready%3Fx%3D%23y"


def test_nobody_at_the_address(records, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    server.server_close()
    with pytest.raises(EndpointError, match=r"given up after 2 attempts.*Connection refused.*Check the address"):
        target_of(server, records, attempts=2)


def test_the_budget_is_never_exceeded(server, records):
    target = target_of(server, records, budget=25, batch_size=4)
    target.release.logits(records[:15])
    with pytest.raises(BadInputError, match="query budget: 25 of 25 used, 1 more asked"):
        target.release.logits(records[:1])
    assert sum(shape[0] for shape in server.asked) == 25
    with pytest.raises(BadInputError, match="the budget is 5"):
        target_of(server, records, budget=5)
    assert sum(shape[0] for shape in server.asked) == 25


class TestToken:
    def test_it_is_sent_as_a_bearer_and_written_nowhere(self, server, records, monkeypatch):
        without = target_of(server, records)
        monkeypatch.setenv(TOKEN, " s3cret \n")
        target = target_of(server, records)
        assert all(headers["Authorization"] == "Bearer s3cret" for _, _, headers in server.seen[-4:])
        assert "s3cret" not in repr(target) + repr(endpoint(server)) + target.fingerprint
        assert target.fingerprint == without.fingerprint

    def test_it_is_struck_out_of_what_the_server_says(self, server, records, monkeypatch):
        monkeypatch.setenv(TOKEN, "s3cret")
        server.faults = [code(400, {"error": "who is s3cret?"})]
        with pytest.raises(EndpointError, match=r"who is \*\*\*\?"):
            target_of(server, records)

    @pytest.mark.parametrize("value", ["a\nb", "geheimnis\u00fc"])
    def test_one_that_no_header_can_carry_is_refused_without_its_text(self, value, server, records, monkeypatch):
        monkeypatch.setenv(TOKEN, value)
        with pytest.raises(EndpointError, match="cannot carry") as caught:
            target_of(server, records)
        assert value not in str(caught.value)
        assert not server.seen


def test_fingerprints_tell_endpoints_apart(server, records):
    prints = {target_of(server, records, version=version).fingerprint for version in ("", "2", "")}
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "ftp://host/x"}, "got ftp scheme"),
        ({"url": "file:///etc/passwd"}, "got file scheme"),
        ({"url": "localhost:8000"}, "expected http://host:port"),
        ({"url": "http://h\u00f6st"}, "expected http://host:port"),
        ({"url": "http://"}, "expected http://host:port"),
        ({"url": "http://host:port"}, "got one with Port could not be cast"),
        ({"url": "http://user:pass@host"}, "without user, password"),
        ({"url": "http://host/?key=1"}, f"Put a secret into {TOKEN}"),
        ({"model": ""}, "the name of a model"),
        ({"batch_size": 0}, "batch_size and attempts of 1 or more"),
        ({"attempts": 0}, "batch_size and attempts of 1 or more"),
        ({"timeout": 0.0}, "timeout above 0"),
        ({"timeout": float("nan")}, "timeout above 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(BadInputError, match=message) as caught:
        Endpoint(**{"url": "http://host", "model": "digits", **settings})
    assert "pass@" not in str(caught.value)
