"""Every size, count and time of dfs, with its unit. Relations are asserted at the end."""

from __future__ import annotations

from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
NS_PER_S: Final = 1_000_000_000

# --- names and files (limits.h, path_resolution(7), xattr(7)) ---
NAME_BYTES_MAX: Final = 255
PATH_BYTES_MAX: Final = 4095
SYMLINK_BYTES_MAX: Final = 4095
LINK_COUNT_MAX: Final = (1 << 31) - 1
FILE_BYTES_MAX: Final = (1 << 63) - 1
XATTR_NAME_BYTES_MAX: Final = 255
XATTR_VALUE_BYTES_MAX: Final = 64 * KIB
XATTR_LIST_BYTES_MAX: Final = 64 * KIB
TIME_NS_MIN: Final = -(1 << 63)
TIME_NS_MAX: Final = (1 << 63) - 1

# --- blocks ---
FRAME_BYTES: Final = 64 * KIB
BLOCK_BYTES_MIN: Final = 64 * KIB
BLOCK_BYTES_DEFAULT: Final = 1 * MIB
BLOCK_BYTES_MAX: Final = 8 * MIB
BLOCK_ID_BYTES: Final = 32
INLINE_BYTES_MAX: Final = 4 * KIB
"""Inline extents live only in the first this many bytes of a file (decisions/0002)."""
PLACEMENT_GROUP_BITS: Final = 12
COPIES_MAX: Final = 8

# --- engine (the floor that every engine meets) ---
ENGINE_KEY_BYTES_MAX: Final = 480
ENGINE_VALUE_BYTES_MAX: Final = 128 * KIB
ENGINE_BATCH_RECORDS_MAX: Final = 1000
ENGINE_BATCH_BYTES_MAX: Final = 1 * MIB

# --- metadata server ---
SHARD_BITS: Final = 16
INODE_COUNTER_BITS: Final = 48
INODE_RANGE_COUNT: Final = 4096
"""Inode numbers handed to a session at once."""
OP_RECORDS_MAX: Final = 500
"""Records that one op may change; work over more is cut into resumable steps."""
RECORD_CACHE_COUNT_MAX: Final = 200_000
READDIR_ENTRIES_MAX: Final = 1000
EXTENTS_PER_REPLY_MAX: Final = 2048
SCAN_RECORDS_MAX: Final = 1000
SCAN_BYTES_MAX: Final = 4 * MIB
SESSIONS_MAX: Final = 10_000
OPS_IN_FLIGHT_MAX: Final = 1024
"""Unanswered ops of one session."""
LEASES_PER_SESSION_MAX: Final = 131_072
RECALLS_PER_REPLY_MAX: Final = 256

# --- times (seconds) ---
SESSION_TTL_S: Final = 30.0
"""A session that says nothing for this long is expired."""
KEEP_ALIVE_S: Final = 5.0
KERNEL_MEMORY_S: Final = 1.0
"""For how long at most a kernel is told to remember anything: so long the mount of a process that
died may still answer."""
SERVER_REPORT_S: Final = 1.0
SERVER_DOWN_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 3.0
CALL_TIMEOUT_S: Final = 10.0
"""Silence on one call after which the link counts as broken."""
META_PATIENCE_S: Final = 60.0
"""How long a client keeps trying to reach a metadata server before an operation fails with EIO."""
DIRTY_AGE_S: Final = 1.0
"""Dirty data older than this is flushed though nobody asked."""

# --- packets ---
PACKET_HEADER_BYTES_MAX: Final = 8 * MIB
PACKET_PAYLOAD_BYTES_MAX: Final = BLOCK_BYTES_MAX + 64 * KIB
REQUESTS_IN_FLIGHT_MAX: Final = 256
"""Requests of one connection that a server works on at once."""
CONNECTION_PAYLOAD_BYTES_MAX: Final = 32 * MIB
"""Payloads of one connection's requests that a server works on at once; one more may be read."""

# --- chunk server ---
SEGMENT_BYTES_MAX: Final = 256 * MIB
SPACE_RESERVE_BYTES: Final = 64 * MIB
"""Left free on a chunk server's disk so that deletes and compaction can always proceed."""
INDEX_CHECKPOINT_S: Final = 5.0
INDEX_CHECKPOINT_RECORDS: Final = 4096
PUTS_IN_MEMORY_BYTES_MAX: Final = 64 * MIB
HAS_BLOCKS_MAX: Final = 4096

# --- client ---
DIRTY_BYTES_MAX: Final = 64 * MIB
BLOCK_CACHE_BYTES_MAX: Final = 64 * MIB
UPLOADS_IN_FLIGHT_MAX: Final = 8
READ_AHEAD_BYTES_MIN: Final = 1 * MIB
READ_AHEAD_BYTES_MAX: Final = 8 * MIB
PIECES_PER_COMMIT_MAX: Final = 100
DIRECTORY_PAGES_KEPT: Final = 8
RECORDS_CACHED_MAX: Final = 65_536
"""Inodes that a client remembers under leases."""
NAMES_CACHED_MAX: Final = 262_144
"""Entries of directories that a client remembers under leases."""

assert BLOCK_BYTES_MIN <= BLOCK_BYTES_DEFAULT <= BLOCK_BYTES_MAX
assert BLOCK_BYTES_MIN % FRAME_BYTES == 0
assert INLINE_BYTES_MAX < FRAME_BYTES
assert XATTR_VALUE_BYTES_MAX < ENGINE_VALUE_BYTES_MAX
assert OP_RECORDS_MAX <= ENGINE_BATCH_RECORDS_MAX
assert PACKET_PAYLOAD_BYTES_MAX > BLOCK_BYTES_MAX
assert KEEP_ALIVE_S * 3 < SESSION_TTL_S
assert KERNEL_MEMORY_S < KEEP_ALIVE_S
assert SERVER_REPORT_S * 3 < SERVER_DOWN_S
assert CALL_TIMEOUT_S < SESSION_TTL_S < META_PATIENCE_S
assert RECORDS_CACHED_MAX * 2 <= LEASES_PER_SESSION_MAX
assert READ_AHEAD_BYTES_MAX <= BLOCK_CACHE_BYTES_MAX // 4
