from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def private_folders(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Neither the user's cache nor the user's data sets play a part in these tests."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DIVULGE_CACHE", str(cache))
    monkeypatch.delenv("DIVULGE_DATA", raising=False)
    return cache
