"""dfs: a distributed POSIX filesystem.

`ARCHITECTURE.md` draws the parts; `docs/invariants.md` states the rules that every part keeps.
"""

if not __debug__:
    raise SystemExit("dfs: refusing to run with assertions off; start Python without -O")
