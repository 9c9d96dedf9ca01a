"""What importing the package and asking for help must not load."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "sklearn", "pyarrow", "scipy", "numpy", "jinja2", "ray", "PIL")


def loaded(code):
    probe = f"{code}\nimport sys; print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return done.stderr.strip().splitlines()[-1], done.stdout


def test_importing_the_package_loads_nothing_heavy():
    assert loaded("import divulge; dir(divulge); divulge.__all__")[0] == "[]"


@pytest.mark.parametrize("command", [[], ["audit"], ["epsilon"]])
def test_help_loads_nothing_heavy(command):
    code = (
        f"import sys; sys.argv = ['divulge', *{command!r}, '--help']\n"
        "from divulge.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    )
    heavy, out = loaded(code)
    assert heavy == "[]"
    assert "Usage" in out
