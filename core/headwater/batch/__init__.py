"""Batch jobs: any pipeline of any domain over many rows, in many processes, killed and resumed.

One planner and one driver; workers in this process, as processes of this machine, or as actors of a Ray cluster. A shard is a
fixed range of rows; its files are staged, synced and renamed, and the manifest lists what is done: so however often a shard is
begun, it is in the results once. This package imports no torch outside its workers.

The names below are imported when first asked for: workers are begun before anything else is, and import while a job is planned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.batch.running import Outcome, Where, prepare, resume, run, status, verify

__all__ = ["Outcome", "Where", "prepare", "resume", "run", "status", "verify"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from headwater.batch import running

    return getattr(running, name)
