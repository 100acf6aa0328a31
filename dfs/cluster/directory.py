"""A local cluster's directory: where everything of it lies, and what it was made with.

    DIR/cluster.json   settings, written by the first `dfs up`
    DIR/meta/          the metadata server's engine          DIR/chunk-N/  a chunk server's blocks
    DIR/log/ROLE.log   what each process said
    DIR/run/           state.json, the supervisor's lock, sockets; meaningless after a reboot

A Unix socket's path has room for 107 bytes: if DIR is too long for that, the sockets lie in the
runtime directory, under a hash of DIR.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from dfs.background import runtime_directory
from dfs.errors import FormatTooNew, UserError
from dfs.limits import COPIES_MAX

if TYPE_CHECKING:
    from typing import BinaryIO

FORMAT_VERSION = 1
SOCKET_PATH_BYTES_MAX = 100
CHUNK_SERVERS_DEFAULT = 3
CHUNK_SERVERS_MAX = 64
COPIES_DEFAULT = 2
META_ROLE = "meta"
MOUNT_ROLE = "mount"


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a local cluster was made with."""

    format_version: int = FORMAT_VERSION
    chunk_servers: int
    copies: int
    mountpoint: str
    """Absolute."""

    @property
    def min_copies(self) -> int:
        """With a server to spare, the loss of one never makes a write wait for its second copy
        (I3); without, writing must go on with one copy less."""
        return self.copies if self.chunk_servers > self.copies else max(1, self.copies - 1)


class PartState(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a local cluster, as its supervisor last saw it."""

    role: str
    """`meta`, `chunk-N` or `mount`."""
    pid: int = 0
    """0 while it does not run."""
    phase: str = "waiting"
    """`waiting` (for another part, or before the next attempt), `running`, or `ended` (on purpose;
    stays so until the next `dfs up`)."""
    failures: int = 0
    """Times it ended unasked since it last ran for a while."""
    problem: str = ""
    """Its last words when it failed."""


class ClusterState(msgspec.Struct, frozen=True, kw_only=True):
    """What DIR/run/state.json says."""

    supervisor: int
    """Process id; 0 once everything is stopped."""
    parts: tuple[PartState, ...] = ()
    is_stopping: bool = False
    problems: tuple[str, ...] = ()
    """What went wrong while stopping."""


class ClusterDirectory:
    """Paths and addresses of the local cluster in `top`. Makes nothing unless it says so."""

    def __init__(self, top: Path | str) -> None:
        self.top = Path(os.path.realpath(top))

    @property
    def settings_path(self) -> Path:
        return self.top / "cluster.json"

    @property
    def run(self) -> Path:
        return self.top / "run"

    @property
    def state_path(self) -> Path:
        return self.run / "state.json"

    @property
    def registry_path(self) -> Path:
        """The entry by which commands without TARGET find it while it runs."""
        return runtime_directory() / "clusters" / f"{self._short_name}.json"

    @property
    def meta_address(self) -> str:
        return self._address(META_ROLE)

    @property
    def _short_name(self) -> str:
        return hashlib.sha256(os.fsencode(self.top)).hexdigest()[:16]

    def log(self, role: str) -> Path:
        return self.top / "log" / f"{role}.log"

    def data(self, role: str) -> Path:
        return self.top / role

    def _address(self, role: str) -> str:
        return f"unix:{self.socket_directory / role}.sock"

    @property
    def socket_directory(self) -> Path:
        longest = self.run / "chunk-NN.sock"
        if len(os.fsencode(longest)) <= SOCKET_PATH_BYTES_MAX:
            return self.run
        return runtime_directory() / "sockets" / self._short_name

    def part_arguments(self, role: str, settings: ClusterSettings) -> list[str]:
        """What to run dfs with for this part."""
        address = self._address(role)
        if role == META_ROLE:
            engine = f"lmdb:{self.data(role)}"
            copies = ["--copies", str(settings.copies), "--min-copies", str(settings.min_copies)]
            return ["meta", "--engine", engine, "--listen", address, *copies]
        if role == MOUNT_ROLE:
            return ["mount", str(self.top), settings.mountpoint, "--foreground"]
        place = ["--data", str(self.data(role)), "--listen", address, "--zone", role]
        return ["chunk", "--meta", self.meta_address, *place]

    @property
    def exists(self) -> bool:
        return os.path.isfile(self.settings_path)

    def read_settings(self) -> ClusterSettings:
        """Raises UserError (there is none, or it is damaged) or FormatTooNew."""
        try:
            text = self.settings_path.read_bytes()
        except FileNotFoundError:
            raise UserError(f"{self.top}: no local cluster here (no cluster.json)") from None
        try:
            version = msgspec.json.decode(text, type=dict).get("format_version")
            if isinstance(version, int) and version > FORMAT_VERSION:
                raise FormatTooNew(
                    f"{self.settings_path}: format {version} was written by a newer dfs; "
                    f"this one reads up to {FORMAT_VERSION}"
                )
            return msgspec.json.decode(text, type=ClusterSettings)
        except msgspec.DecodeError as error:
            raise UserError(f"{self.settings_path}: damaged: {error}") from None

    def write_settings(self, settings: ClusterSettings) -> None:
        """Make the directory if need be."""
        self.top.mkdir(parents=True, exist_ok=True)
        replace_file(self.settings_path, msgspec.json.format(msgspec.json.encode(settings)))

    def read_state(self) -> ClusterState | None:
        """What the supervisor last wrote; None if there is nothing readable."""
        try:
            return msgspec.json.decode(self.state_path.read_bytes(), type=ClusterState)
        except (OSError, msgspec.DecodeError):
            return None

    def make_run_directories(self) -> None:
        for path in (self.run, self.top / "log", self.socket_directory):
            path.mkdir(parents=True, exist_ok=True, mode=0o755)
        self.socket_directory.chmod(0o700)

    def lock(self) -> BinaryIO | None:
        """The supervisor's lock, held until the file is closed; None if another process has it."""
        self.run.mkdir(parents=True, exist_ok=True)
        file = open(self.run / "supervisor.lock", "ab")  # noqa: SIM115 - open means locked
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno == errno.EWOULDBLOCK:
                return None
            raise
        return file

    @property
    def is_running(self) -> bool:
        """A supervisor holds the lock."""
        if not (self.run / "supervisor.lock").exists():
            return False
        lock = self.lock()
        if lock is None:
            return True
        lock.close()
        return False


def roles(settings: ClusterSettings) -> list[str]:
    """All parts, in the order of starting."""
    return [META_ROLE, *(f"chunk-{n}" for n in range(settings.chunk_servers)), MOUNT_ROLE]


def agreed_settings(
    directory: ClusterDirectory,
    *,
    mountpoint: str | None,
    chunk_servers: int | None,
    copies: int | None,
) -> ClusterSettings:
    """What `dfs up` runs with: what was asked for, else what it was made with, else the defaults.

    Raises UserError if that cannot be: fewer servers than before hold data, and copies are fixed.
    """
    known = directory.read_settings() if directory.exists else None
    servers = chunk_servers or (known.chunk_servers if known else CHUNK_SERVERS_DEFAULT)
    wanted_copies = copies or (known.copies if known else min(COPIES_DEFAULT, servers))
    if known and servers < known.chunk_servers:
        raise UserError(
            f"{directory.top} has {known.chunk_servers} chunk servers with data on them; "
            f"it cannot go down to {servers}",
            exit_status=2,
        )
    if known and wanted_copies != known.copies:
        raise UserError(
            f"{directory.top} was made with --copies {known.copies}; that cannot be changed",
            exit_status=2,
        )
    if wanted_copies > min(servers, COPIES_MAX):
        raise UserError(
            f"--copies {wanted_copies} needs at least {wanted_copies} chunk servers, "
            f"there are {servers} (at most {COPIES_MAX} copies)",
            exit_status=2,
        )
    place = mountpoint or (known.mountpoint if known else str(directory.top / "mnt"))
    return ClusterSettings(chunk_servers=servers, copies=wanted_copies, mountpoint=place)


def running_clusters() -> list[ClusterDirectory]:
    """The local clusters that run now, by directory."""
    folder = runtime_directory() / "clusters"
    found = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            directory = ClusterDirectory(msgspec.json.decode(path.read_bytes(), type=str))
        except (OSError, msgspec.DecodeError):
            continue
        if directory.is_running:
            found.append(directory)
    return sorted(found, key=lambda one: one.top)


def replace_file(path: Path, content: bytes) -> None:
    """Readers see the old or the new content, never a part."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    temporary.replace(path)
