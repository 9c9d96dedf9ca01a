"""What tests share: the optional data, and a clear word about what cannot run here."""

import os
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest
import torch

collect_ignore_glob = ["*conftest.py"]  # they hold no doctests, and share one module name
NEEDS = {
    "data": (
        lambda: bool(os.environ.get("DIVULGE_DATA")),
        "DIVULGE_DATA is not set: the optional data sets are absent",
    ),
    "browser": (lambda: bool(which("chromium") and find_spec("playwright")), "Chromium or playwright is not installed"),
    "ray": (lambda: find_spec("ray") is not None, "the ray extra is not installed"),
    "flower": (lambda: find_spec("flwr") is not None, "the flower extra is not installed"),
}


REQUIRED = os.environ.get("DIVULGE_REQUIRE", "").split()


def pytest_collection_modifyitems(items):
    """Skip by name what cannot run here, and let clusters start one after another."""
    for kind, (present, reason) in NEEDS.items():
        for item in items if not present() else ():
            if item.get_closest_marker(kind):
                item.add_marker(pytest.mark.skip(reason=reason))
    for item in items:
        if item.get_closest_marker("ray") or item.get_closest_marker("flower"):
            item.add_marker(pytest.mark.xdist_group("clusters"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """A skipped test of a kind that `DIVULGE_REQUIRE` names has failed."""
    report = yield
    if report.skipped and any(item.get_closest_marker(kind) for kind in REQUIRED):
        report.outcome = "failed"
        report.longrepr = f"required by DIVULGE_REQUIRE, but skipped: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The optional real data sets."""
    return Path(os.environ["DIVULGE_DATA"])


@pytest.fixture(autouse=True)
def _own_places(request, tmp_path_factory, monkeypatch):
    """No test sees the caches of the person who runs it, and only those that say so see the optional data."""
    monkeypatch.setenv("DIVULGE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("DIVULGE_DATA", raising=False)


@pytest.fixture(autouse=True)
def _first_weights():
    """A network made in a test has the same first weights in every run of it."""
    torch.manual_seed(0)
