import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The optional real data sets; what needs them is skipped by name where they are not."""
    folder = os.environ.get("DIVULGE_DATA")
    if not folder:
        pytest.skip("DIVULGE_DATA is not set: optional data sets are absent")
    return Path(folder)
