"""The peers' own environment: made on first use, and asked through scripts that print one JSON object."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parent / ".venv-peers"


class NotRunError(Exception):
    """The peers cannot be measured here; the message says why."""


def environment() -> Path:
    """The peers' interpreter; makes their environment on first use.

    Raises:
        NotRunError: pip cannot install them.
    """
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "peers.stamp"
    wanted = (HERE / "peers.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        for command in (
            [sys.executable, "-m", "venv", str(ENVIRONMENT)],
            [str(python), "-m", "pip", "install", "--quiet", "-r", str(HERE / "peers.txt")],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise NotRunError(f"the peers cannot be installed: {_last_line(done.stderr)}")
        stamp.write_text(wanted)
    return python


def ask(python: Path, script: str, *arguments: str) -> dict[str, Any]:
    """What a script beside this file prints last.

    Raises:
        NotRunError: it failed.
    """
    done = subprocess.run([str(python), str(HERE / script), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise NotRunError(f"{' '.join((script, *arguments[:1]))} failed: {_last_line(done.stderr)}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _last_line(text: str) -> str:
    errors = [line for line in text.strip().splitlines() if "ERROR" in line or "Error" in line]
    return (errors or text.strip().splitlines() or ["no message"])[-1]
