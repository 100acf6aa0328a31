"""`python -m tests.chaos.short_sessions DIRECTORY LISTEN --ready-fd N`: a metadata server whose
sessions expire soon, which the command line of `dfs meta` does not offer. Two copies of everything,
and no less for a write to count: then one damaged server harms nobody."""

from __future__ import annotations

import argparse
from functools import partial

from dfs.cli.serving import serve_until_signal
from dfs.config import MetaConfig
from dfs.engine.open import open_engine
from dfs.meta.server import run_meta_server
from dfs.rpc.transport import system_environment

SESSION_TTL_S = 12.0
COPIES = 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("listen")
    parser.add_argument("--ready-fd", type=int)
    options = parser.parse_args()
    config = MetaConfig(
        listen=options.listen, copies=COPIES, min_copies=COPIES, session_ttl_s=SESSION_TTL_S
    )
    engine = open_engine(f"lmdb:{options.directory}")
    try:
        server = partial(run_meta_server, config, system_environment(), engine=engine)
        serve_until_signal(server, options.ready_fd)
    finally:
        engine.close()


if __name__ == "__main__":
    main()
