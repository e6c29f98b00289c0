"""CPU seconds of `headwater --help` and `headwater list`: the median of seven fresh processes, user and system time together.

Run it with `make bench`, or alone: `.venv/bin/python benchmarks/startup.py`. Results: benchmarks/results/startup.json.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

RUNS = 7
RESULTS = Path(__file__).parent / "results" / "startup.json"


def cpu_seconds(command: list[str]) -> tuple[float, float]:
    """User and system seconds of one process. Raises ``RuntimeError`` where it fails."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}")
    return usage.ru_utime, usage.ru_stime


def main() -> None:
    program = str(Path(sys.executable).with_name("headwater"))
    figures = {}
    for arguments in (["--help"], ["list"]):
        cpu_seconds([program, *arguments])  # writes the byte code once, as an installation does
        runs = [cpu_seconds([program, *arguments]) for _ in range(RUNS)]
        name = " ".join(["headwater", *arguments])
        figures[name] = {
            "cpu_seconds": round(statistics.median(user + system for user, system in runs), 3),
            "user_seconds": round(statistics.median(user for user, _ in runs), 3),
            "least": round(min(user + system for user, system in runs), 3),
            "most": round(max(user + system for user, system in runs), 3),
        }
        print(f"{name}: {figures[name]['cpu_seconds']} s of CPU (median of {RUNS})")
    result = {
        "command": "python benchmarks/startup.py",
        "n": RUNS,
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        "headwater": version("headwater"),
        "figures": figures,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
