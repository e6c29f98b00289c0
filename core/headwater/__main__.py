"""``python -m headwater`` and the console script ``headwater``: the command line of :mod:`headwater.cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the process's command line and exit with its code."""
    words = sys.argv[1:]
    if words[:1] == ["batch"] and words[1:2] in (["run"], ["resume"]) and not {"-h", "--help", "ray"} & {*words}:
        from headwater.batch.local import begin

        begin(1)  # the first worker imports torch while this process reads its command line and plans
    from headwater.cli import main as run

    run()


if __name__ == "__main__":
    main()
