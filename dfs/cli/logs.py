"""Where the processes that stay log to."""

from __future__ import annotations

import logging
import sys

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_to_stderr(level: int = logging.INFO) -> None:
    """One line per event, with time; stderr is a log file for what runs in the background."""
    logging.basicConfig(stream=sys.stderr, level=level, format=FORMAT)
