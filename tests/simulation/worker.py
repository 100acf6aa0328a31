"""`python -m tests.simulation.worker [BUG]`: plays the runs that its parent sends, one after the
other, and answers each with its result. Both are lines of JSON. Ends when its input does."""

from __future__ import annotations

import faulthandler
import os
import sys

import msgspec

from tests.simulation.play import Run, play, prepare

ORPHAN_S = 3600
"""Real time that a run may take when no parent is left to end it sooner."""


def main(arguments: list[str]) -> None:
    """Play until told to end."""
    # Prints of whatever is played must not end up among the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # A parent that loses patience sends SIGABRT, and reads from stderr where this process was.
    faulthandler.enable()
    bug = arguments[0] if arguments else ""
    prepare(bug)
    for line in sys.stdin.buffer:
        faulthandler.dump_traceback_later(ORPHAN_S, exit=True)
        result, _ = play(msgspec.json.decode(line, type=Run), bug)
        answers.write(msgspec.json.encode(result) + b"\n")
        answers.flush()
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(sys.argv[1:])
