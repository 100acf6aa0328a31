"""`dfs chunk`."""

from __future__ import annotations

import os
import re
from functools import partial

import click

from dfs.cli.serving import CHUNK_PORT, own_host_towards, serve_until_signal
from dfs.config import ChunkConfig
from dfs.errors import UserError
from dfs.rpc.transport import format_address, parse_address, system_environment

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes: `500M`, `1.5TiB`, `1000`. Units are powers of 1024. Raises UserError (usage)."""
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * 1024 ** " KMGTP".index(found[2].upper() or " ")) if found else 0
    if size <= 0:
        raise UserError(f"not a size: {text} (for example 500G)", exit_status=2)
    return size


@click.command()
@click.option("--data", required=True, metavar="DIR", help="Keeps the blocks; made if missing.")
@click.option("--meta", required=True, metavar="ADDR[,ADDR...]", help="Metadata servers.")
@click.option(
    "--listen",
    metavar="ADDR",
    help=f"HOST:PORT or unix:PATH (the address that reaches the metadata server, {CHUNK_PORT}).",
)
@click.option(
    "--advertise", default="", metavar="ADDR", help="What clients are told, if different."
)
@click.option(
    "--zone", default="", metavar="Z", help="Failure domain; copies go to distinct zones."
)
@click.option("--capacity", metavar="SIZE", help="Use at most this much of the disk, like 500G.")
@click.option("--ready-fd", type=int, hidden=True)
def command(
    data: str,
    meta: str,
    listen: str | None,
    advertise: str,
    zone: str,
    capacity: str | None,
    ready_fd: int | None,
) -> None:
    """Run a chunk server in the foreground, until SIGTERM or SIGINT."""
    from dfs.chunk.server import run_chunk_server

    meta_addresses = tuple(meta.split(","))
    for address in [*meta_addresses, *filter(None, [listen, advertise])]:
        parse_address(address)
    config = ChunkConfig(
        data=os.path.abspath(data),
        meta=meta_addresses,
        listen=listen or format_address(own_host_towards(meta_addresses[0]), CHUNK_PORT),
        advertise=advertise,
        zone=zone,
        capacity_bytes=parse_size(capacity) if capacity else None,
    )
    serve_until_signal(partial(run_chunk_server, config, system_environment()), ready_fd)
