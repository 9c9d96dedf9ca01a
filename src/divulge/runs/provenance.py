"""Where and with what code a result was computed, without names of hosts, people or folders."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> float:
    """Main memory in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def machine() -> dict[str, Any]:
    """The machine that this process runs on: CPU model, cores, memory in GiB, versions and the device torch has.

    Example:
        >>> sorted(machine())
        ['cores', 'cpu', 'device', 'memory_gb', 'python', 'system', 'torch']
    """
    # A process that never loaded torch computed on the CPU, and should not spend a second on loading it to say so.
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_available()
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gb": round(memory_gb(), 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "device": torch.cuda.get_device_name() if torch is not None and on_gpu else "cpu",
    }


def _cpu() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the checkout that divulge runs from, with `-dirty` behind it if files differ; None if installed."""
    package = Path(__file__).resolve().parents[1]
    if not (package.parents[1] / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
