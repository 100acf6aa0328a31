"""Bugs of leases, at both ends."""

from __future__ import annotations

from tests.simulation.bugs.bug import Bug, Change

BUGS = (
    Bug(
        "change-without-a-recall",
        "An op is applied though others remember what it changes.",
        "I4",
        ("leases",),
        (
            Change(
                "dfs.meta.recalls",
                """
        if recalls or self._strangers:
""",
                """
        if self._strangers:
""",
            ),
        ),
    ),
    Bug(
        "lease-given-though-claimed",
        "What is claimed for a change is leased to others all the same.",
        "I4",
        ("leases", "lease-links"),
        (
            Change(
                "dfs.core.leases",
                """
        return self._claims[ino] > int(is_own) if ino in self._claims else False
""",
                """
        return False
""",
            ),
        ),
    ),
    Bug(
        "own-leases-are-never-in-the-way",
        "An op changes what its own session remembers and has not forgotten.",
        "I4",
        ("leases",),
        (
            Change(
                "dfs.core.leases",
                """
                if session_id == own and ino in named and names <= named[ino]:
""",
                """
                if session_id == own:
""",
            ),
            Change(
                "dfs.client.record_cache",
                """
                    self._forget(ino, ())
                    unnamed.append(ino)
""",
                """
                    unnamed.append(ino)
""",
            ),
        ),
    ),
    Bug(
        "recalled-and-not-forgotten",
        "A client answers recalls and goes on to remember.",
        "I4",
        ("leases",),
        (
            Change(
                "dfs.client.record_cache",
                """
            self._forget(ino, names)
            if lease is not None:
                lease.is_used = False
""",
                """
            if lease is not None:
                lease.is_used = False
""",
            ),
        ),
    ),
    Bug(
        "answer-overtaken-by-a-recall-is-kept",
        "An answer is remembered though a recall has overtaken it.",
        "I4",
        ("leases", "lease-links"),
        (
            Change(
                "dfs.client.record_cache",
                """
        return newest <= question.asked_at
""",
                """
        return True
""",
            ),
        ),
    ),
    Bug(
        "answers-in-flux-are-kept",
        "An answer is remembered while an own op that changes it is under way.",
        "I4",
        ("leases", "lease-links"),
        (
            Change(
                "dfs.client.record_cache",
                """
        return self.is_newer(question, ino) and ino not in self._flux
""",
                """
        return self.is_newer(question, ino)
""",
            ),
            Change(
                "dfs.client.record_cache",
                """
        for ino, names in named_by(op).items():
            self._forget(ino, names)
            self._leave_flux(ino)
""",
                """
        for ino in named_by(op):
            self._leave_flux(ino)
""",
            ),
        ),
    ),
    Bug(
        "own-change-not-forgotten",
        "A client remembers what was there before its own op.",
        "I4",
        ("leases",),
        (
            Change(
                "dfs.client.record_cache",
                """
        lease = self._leases.get(ino)
        if lease is None:
            return
        lease.inode = None
""",
                """
        lease = self._leases.get(ino)
        if lease is None or ino in self._flux:
            return
        lease.inode = None
""",
            ),
        ),
    ),
    Bug(
        "leases-outlive-the-session",
        "A client trusts what it remembers however long it has heard nothing.",
        "I4",
        ("lease-links",),
        (
            Change(
                "dfs.client.record_cache",
                """
        return trio.current_time() < self.good_until_s
""",
                """
        return self.good_until_s > -math.inf
""",
            ),
        ),
    ),
    Bug(
        "leases-outlive-the-link",
        "A client remembers what was leased to it over a link that is gone.",
        "I4",
        ("lease-links", "lease-crashes"),
        (
            Change(
                "dfs.client.record_cache",
                """
        self._leases.clear()
        self._named.clear()
        self._given_back.clear()
        self._forgotten.clear()
        self._changed.clear()
        self._name_count = 0
""",
                """
        self._given_back.clear()
        self._forgotten.clear()
        self._changed.clear()
""",
            ),
        ),
    ),
    Bug(
        "strangers-are-not-waited-for",
        "A server that was started again waits for no session that may remember something.",
        "I4",
        ("lease-restarts", "alone-links", "fights"),
        (
            Change(
                "dfs.meta.recalls",
                """
        self._strangers = dict.fromkeys(strangers)
""",
                """
        self._strangers = dict.fromkeys(list(strangers)[:0])
""",
            ),
        ),
    ),
    Bug(
        "leases-given-back-without-forgetting",
        "A lease is given back while an answer that renews it here is under way.",
        "I4",
        ("lease-small",),
        (
            Change(
                "dfs.client.record_cache",
                """
            del self._given_back[ino]
            self._forget(ino, ())
""",
                """
            del self._given_back[ino]
""",
            ),
        ),
    ),
    Bug(
        "recall-answered-without-holds",
        "A recall of a file that is open under its lease is answered, and the hold is not told.",
        "I6",
        ("orphans", "alone"),
        (
            Change(
                "dfs.client.open_files",
                """
            self.session.ops.owe_hold(ino)
""",
                """
            assert self.session.ops.may_do_here is not None
""",
            ),
        ),
    ),
    Bug(
        "holds-after-the-answer",
        "The server hears that a lease is gone, and then that its file is open.",
        "I6",
        ("orphans", "alone"),
        (
            Change(
                "dfs.meta.handlers",
                """
        self._hold(session, request.holds)
        self._recalls.leases.give_back(session.session_id, request.given_back)
        answers = session.stream.submit(request.ops, request.answered_below)
        outcomes = tuple([await answer() for answer in answers])
""",
                """
        self._recalls.leases.give_back(session.session_id, request.given_back)
        answers = session.stream.submit(request.ops, request.answered_below)
        outcomes = tuple([await answer() for answer in answers])
        self._hold(session, request.holds)
""",
            ),
        ),
    ),
    Bug(
        "leased-opens-not-told-after-a-lost-link",
        "A client that opens its session again does not name what it had open under leases.",
        "I6",
        ("orphans", "lease-links"),
        (
            Change(
                "dfs.client.open_files",
                """
            file.is_held |= file.is_leased
            file.is_leased = False
""",
                """
            file.is_leased = False
""",
            ),
        ),
    ),
)
