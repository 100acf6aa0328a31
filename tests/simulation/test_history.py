"""The check of histories: it accepts what one order explains, and nothing else."""

from __future__ import annotations

import errno

import pytest

from tests.simulation.checkers.history import Access, Answer, History, Op, check_history
from tests.simulation.checkers.namespace_model import value_of
from tests.simulation.workloads.tree import RENAME_EXCHANGE, RENAME_NOREPLACE

SEVEN, EIGHT, NINE = value_of(7), value_of(8), value_of(9)
FOLDER = value_of(5, is_directory=True)


def _told(*steps: tuple[Op | Access, Answer | int]) -> History:
    """Ops one after the other, in two directories of two names."""
    history = History(2, 2)
    for op, answer in steps:
        history.answer(history.call(op), answer)
    return history


def test_one_after_the_other() -> None:
    create, rename, lookup = Op("create", 0), Op("rename", 0, 1), Op("lookup", 1)
    assert not check_history(
        _told(
            (lookup, Answer(errno.ENOENT)),
            (create, Answer(0, SEVEN)),
            (create, Answer(errno.EEXIST)),
            (rename, Answer(0)),
            (rename, Answer(errno.ENOENT)),
            (lookup, Answer(0, SEVEN)),
            (Op("list"), Answer(0, listed=(0, SEVEN))),
            (Op("link", 0, value=SEVEN), Answer(0)),
            (rename, Answer(0)),
            (Op("list"), Answer(0, listed=(SEVEN, SEVEN))),
            (Op("stat", 0), Answer(0, SEVEN, nlink=2)),
            (Op("unlink", 0), Answer(0)),
            (Op("stat", 1), Answer(0, SEVEN, nlink=1)),
        )
    )


def test_what_was_answered_is_seen_by_who_comes_later() -> None:
    created = (Op("create", 0), Answer(0, SEVEN))
    assert check_history(_told(created, (Op("lookup", 0), Answer(errno.ENOENT))))
    assert check_history(_told(created, (Op("create", 0), Answer(0, EIGHT))))
    assert check_history(_told(created, (Op("lookup", 0), Answer(0, EIGHT))))
    assert check_history(_told(created, (Op("unlink", 0), Answer(0)), (Op("unlink", 0), Answer(0))))
    assert check_history(_told((Op("unlink", 0), Answer(0))))


def test_renames_that_must_not_replace_and_that_exchange() -> None:
    both = [(Op("create", 0), Answer(0, SEVEN)), (Op("create", 2), Answer(0, EIGHT))]
    exchange = Op("rename", 0, 2, flags=RENAME_EXCHANGE)
    careful = Op("rename", 0, 2, flags=RENAME_NOREPLACE)
    swapped = (Op("list", 1), Answer(0, listed=(SEVEN, 0)))
    assert not check_history(_told(*both, (exchange, Answer(0)), swapped))
    assert check_history(_told(*both, (exchange, Answer(0)), (exchange, Answer(0)), swapped))
    assert not check_history(_told(*both, (careful, Answer(errno.EEXIST))))
    assert check_history(_told(*both, (careful, Answer(0))))
    assert check_history(_told(both[0], (exchange, Answer(0))))


def test_directories_and_files_do_not_replace_each_other() -> None:
    both = [(Op("create", 0), Answer(0, SEVEN)), (Op("mkdir", 1), Answer(0, FOLDER))]
    right = {
        Op("rename", 0, 1): errno.EISDIR,
        Op("rename", 1, 0): errno.ENOTDIR,
        Op("unlink", 1): errno.EISDIR,
        Op("rmdir", 0): errno.ENOTDIR,
        Op("rmdir", 1): 0,
        Op("mkdir", 0): errno.EEXIST,
    }
    for op, number in right.items():
        assert not check_history(_told(*both, (op, Answer(number))))
        assert check_history(_told(*both, (op, Answer(errno.ENOENT))))


def test_ops_at_the_same_time_take_effect_in_any_order() -> None:
    for first in (errno.ENOENT, 0):
        history = History(2)
        create, lookup = history.call(Op("create", 0)), history.call(Op("lookup", 0))
        history.answer(lookup, Answer(first, 0 if first else SEVEN))
        history.answer(create, Answer(0, SEVEN))
        assert not check_history(history)


def test_of_two_creators_at_the_same_time_one_succeeds() -> None:
    for second in (Answer(0, EIGHT), Answer(errno.EEXIST)):
        history = History(2)
        creates = [history.call(Op("create", 0)), history.call(Op("create", 0))]
        history.answer(creates[1], second)
        history.answer(creates[0], Answer(0, SEVEN))
        assert bool(check_history(history)) == (second.errno == 0)


def test_no_two_readers_see_opposite_orders() -> None:
    history = History(2)
    creates = [history.call(Op("create", 0)), history.call(Op("create", 1))]
    history.answer(history.call(Op("list")), Answer(0, listed=(SEVEN, 0)))
    history.answer(history.call(Op("list")), Answer(0, listed=(0, EIGHT)))
    for number, value in zip(creates, (SEVEN, EIGHT), strict=True):
        history.answer(number, Answer(0, value))
    assert check_history(history)


def test_a_removed_name_does_not_come_back() -> None:
    """The removal was seen; nobody may see the file again, though the removal returns later."""
    history = _told((Op("create", 0), Answer(0, SEVEN)))
    unlink = history.call(Op("unlink", 0))
    history.answer(history.call(Op("lookup", 0)), Answer(errno.ENOENT))
    history.answer(history.call(Op("lookup", 0)), Answer(0, SEVEN))
    history.answer(unlink, Answer(0))
    assert check_history(history)


def test_an_abandoned_op_happened_or_not_but_not_later() -> None:
    for found in (Answer(errno.ENOENT), Answer(0, SEVEN)):
        history = History(2)
        history.abandon(history.call(Op("create", 0)))
        history.answer(history.call(Op("lookup", 0)), found)
        assert not check_history(history)

    history = History(2)
    history.abandon(history.call(Op("create", 0)))
    history.answer(history.call(Op("lookup", 0)), Answer(errno.ENOENT))
    history.answer(history.call(Op("lookup", 0)), Answer(0, SEVEN))
    assert check_history(history)


def test_what_nobody_was_told_of_is_one_thing() -> None:
    """A file that an abandoned op made is a file, and the same one for everybody."""
    for kind, found, is_right in (
        ("create", SEVEN, True),
        ("create", FOLDER, False),
        ("mkdir", FOLDER, True),
    ):
        history = History(2)
        history.abandon(history.call(Op(kind, 0)))
        history.answer(history.call(Op("rename", 0, 1)), Answer(0))
        history.answer(history.call(Op("lookup", 1)), Answer(0, found))
        assert bool(check_history(history)) != is_right
    history.answer(history.call(Op("lookup", 1)), Answer(0, value_of(6, is_directory=True)))
    assert check_history(history)


def test_a_link_needs_its_inode() -> None:
    link = Op("link", 1, value=SEVEN)
    assert not check_history(_told((link, Answer(errno.ESTALE))))
    assert not check_history(_told((Op("create", 0), Answer(0, SEVEN)), (link, Answer(0))))
    assert check_history(_told((link, Answer(0))))


@pytest.mark.parametrize("found", [1, 2])
def test_a_register_holds_what_was_written_last(found: int) -> None:
    write, read = Access("write", 0, 1), Access("read", 0)
    assert not check_history(_told((read, 0), (write, 1), (read, 1)))
    assert check_history(_told((write, 1), (read, 0)))

    history = _told((write, 1))
    second = history.call(Access("write", 0, 2))
    history.answer(history.call(read), found)
    history.answer(second, 2)
    assert not check_history(history)
    history.answer(history.call(read), 1)
    assert check_history(history)


def test_a_kernel_may_do_nothing_for_a_rename_that_another_was_faster_with() -> None:
    for is_behind_kernels in (False, True):
        history = History(2, is_behind_kernels=is_behind_kernels)
        history.answer(history.call(Op("create", 0)), Answer(0, SEVEN))
        both = [history.call(Op("rename", 0, 1)) for _ in range(2)]
        for number in both:
            history.answer(number, Answer(0))
        history.answer(history.call(Op("list")), Answer(0, listed=(0, SEVEN)))
        assert bool(check_history(history)) is not is_behind_kernels
