"""The check of histories: it accepts what one order explains, and nothing else."""

from __future__ import annotations

import errno

from tests.simulation.checkers.history import Answer, History, Op, check_history


def _told(*steps: tuple[Op, Answer]) -> History:
    """Ops one after the other."""
    history = History(2)
    for op, answer in steps:
        history.answer(history.call(op), answer)
    return history


def test_one_after_the_other() -> None:
    create, rename, lookup = Op("create", 0), Op("rename", 0, 1), Op("lookup", 1)
    assert not check_history(
        _told(
            (lookup, Answer(errno.ENOENT)),
            (create, Answer(0, 7)),
            (create, Answer(errno.EEXIST)),
            (rename, Answer(0)),
            (rename, Answer(errno.ENOENT)),
            (lookup, Answer(0, 7)),
            (Op("list"), Answer(0, listed=(0, 7))),
            (Op("link", 0, ino=7), Answer(0)),
            (rename, Answer(0)),
            (Op("list"), Answer(0, listed=(7, 7))),
            (Op("unlink", 0), Answer(0)),
        )
    )


def test_what_was_answered_is_seen_by_who_comes_later() -> None:
    create = Op("create", 0)
    assert check_history(_told((create, Answer(0, 7)), (Op("lookup", 0), Answer(errno.ENOENT))))
    assert check_history(_told((create, Answer(0, 7)), (create, Answer(0, 8))))
    assert check_history(_told((create, Answer(0, 7)), (Op("lookup", 0), Answer(0, 8))))
    assert check_history(_told((Op("unlink", 0), Answer(0))))


def test_ops_at_the_same_time_take_effect_in_any_order() -> None:
    for first in (errno.ENOENT, 0):
        history = History(2)
        create, lookup = history.call(Op("create", 0)), history.call(Op("lookup", 0))
        history.answer(lookup, Answer(first, 0 if first else 7))
        history.answer(create, Answer(0, 7))
        assert not check_history(history)


def test_no_two_readers_see_opposite_orders() -> None:
    history = History(2)
    creates = [history.call(Op("create", 0)), history.call(Op("create", 1))]
    history.answer(history.call(Op("list")), Answer(0, listed=(7, 0)))
    history.answer(history.call(Op("list")), Answer(0, listed=(0, 8)))
    for number, ino in zip(creates, (7, 8), strict=True):
        history.answer(number, Answer(0, ino))
    assert check_history(history)


def test_an_abandoned_op_happened_or_not_but_not_later() -> None:
    for found in (Answer(errno.ENOENT), Answer(0, 7)):
        history = History(2)
        history.abandon(history.call(Op("create", 0)))
        history.answer(history.call(Op("lookup", 0)), found)
        assert not check_history(history)

    history = History(2)
    history.abandon(history.call(Op("create", 0)))
    history.answer(history.call(Op("lookup", 0)), Answer(errno.ENOENT))
    history.answer(history.call(Op("lookup", 0)), Answer(0, 7))
    assert check_history(history)


def test_a_link_needs_its_inode() -> None:
    link = Op("link", 1, ino=7)
    assert not check_history(_told((link, Answer(errno.ESTALE))))
    assert not check_history(_told((Op("create", 0), Answer(0, 7)), (link, Answer(0))))
    assert check_history(_told((link, Answer(0))))
