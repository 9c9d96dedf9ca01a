import pytest
import report_specimens

from divulge.auditing.facts import Facts


@pytest.fixture(scope="session")
def facts() -> Facts:
    return report_specimens.realistic()


@pytest.fixture(scope="session")
def hostile() -> Facts:
    return report_specimens.attacking()
