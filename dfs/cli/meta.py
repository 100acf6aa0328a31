"""`dfs meta`."""

from __future__ import annotations

from functools import partial

import click

from dfs.cli.chunk import parse_size
from dfs.cli.serving import META_PORT, serve_until_signal
from dfs.config import MetaConfig
from dfs.errors import UserError
from dfs.limits import BLOCK_BYTES_DEFAULT, BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, COPIES_MAX
from dfs.rpc.transport import parse_address, system_environment


@click.command()
@click.option(
    "--engine",
    "engine_url",
    default="lmdb:/var/lib/dfs/meta",
    show_default=True,
    metavar="URL",
    help="Keeps the records: lmdb:DIR, or memory: (gone at the end).",
)
@click.option(
    "--listen",
    default=f"127.0.0.1:{META_PORT}",
    show_default=True,
    metavar="ADDR",
    help="HOST:PORT or unix:PATH. Whoever can connect can do everything: keep it private.",
)
@click.option(
    "--copies",
    type=click.IntRange(1, COPIES_MAX),
    default=2,
    show_default=True,
    help="Of a new volume: copies of every block.",
)
@click.option(
    "--min-copies",
    type=click.IntRange(1, COPIES_MAX),
    help="Of a new volume: copies on stable storage before a write counts (all but one).",
)
@click.option(
    "--block-size", metavar="SIZE", help="Of a new volume: largest block, a power of two (1M)."
)
@click.option("--ready-fd", type=int, hidden=True)
def command(
    engine_url: str,
    listen: str,
    copies: int,
    min_copies: int | None,
    block_size: str | None,
    ready_fd: int | None,
) -> None:
    """Run a metadata server in the foreground, until SIGTERM or SIGINT."""
    from dfs.engine.open import open_engine
    from dfs.meta.server import run_meta_server

    parse_address(listen)
    if min_copies is not None and min_copies > copies:
        raise UserError(f"--min-copies {min_copies} is more than --copies {copies}", exit_status=2)
    config = MetaConfig(
        listen=listen,
        copies=copies,
        min_copies=min_copies,
        block_bytes=_checked_block_bytes(block_size),
    )
    engine = open_engine(engine_url)
    try:
        server = partial(run_meta_server, config, system_environment(), engine=engine)
        serve_until_signal(server, ready_fd)
    finally:
        engine.close()


def _checked_block_bytes(text: str | None) -> int:
    """Raises UserError (usage) unless it is a power of two within the limits."""
    size = parse_size(text) if text else BLOCK_BYTES_DEFAULT
    if size & (size - 1) or not BLOCK_BYTES_MIN <= size <= BLOCK_BYTES_MAX:
        raise UserError(
            f"--block-size {text}: must be a power of two from {BLOCK_BYTES_MIN} to "
            f"{BLOCK_BYTES_MAX} bytes",
            exit_status=2,
        )
    return size
