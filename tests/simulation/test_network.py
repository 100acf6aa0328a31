"""The simulated network: bytes arrive whole and in order, or the connection says that it broke."""

from __future__ import annotations

import random

import pytest
import trio

from tests.simulation.network import PIPE_BYTES_MAX, SimNetwork, SimStream
from tests.simulation.process import Killed, Process
from tests.simulation.trace import Trace

pytestmark = pytest.mark.usefixtures("autojump_clock")


class _Pair:
    """Two processes and a connection between them."""

    def __init__(self, seed: int = 1) -> None:
        self.trace = Trace()
        self.network = SimNetwork(str(seed), self.trace)
        self.client = Process("client", "c", self.network, str(seed), self.trace)
        self.server = Process("server", "s", self.network, str(seed), self.trace)

    async def open(self) -> tuple[SimStream, SimStream]:
        listener = self.network.listen(self.server, "s:1")
        near = await self.network.connect(self.client, "s:1")
        far = await listener.accept()
        assert isinstance(far, SimStream)
        return near, far


def _packets(size: int) -> bytes:
    """Bytes that look like packets: the network reads along."""
    from dfs.core.messages import StatFs
    from dfs.core.packets import encode_packet

    return b"".join(bytes(part) for part in encode_packet(1, StatFs(), bytes(size)))


async def _receive_into(received: bytearray, stream: SimStream) -> None:
    while data := await stream.receive_some(4096):
        received += data


async def _receive_all(stream: SimStream) -> bytes:
    received = bytearray()
    await _receive_into(received, stream)
    return bytes(received)


@pytest.mark.parametrize("seed", range(5))
async def test_all_bytes_arrive_in_order(seed: int, autojump_clock: object) -> None:
    near, far = await _Pair(seed).open()
    sent = _packets(3 * PIPE_BYTES_MAX)
    received = b""

    async def receive() -> None:
        nonlocal received
        received = await _receive_all(far)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await near.send_all(sent)
        await near.aclose()
    assert received == sent


async def test_a_sender_waits_for_a_reader(autojump_clock: object) -> None:
    near, _far = await _Pair().open()
    with trio.move_on_after(60) as scope:
        await near.send_all(_packets(2 * PIPE_BYTES_MAX))
    assert scope.cancelled_caught


async def test_nobody_listens(autojump_clock: object) -> None:
    pair = _Pair()
    with pytest.raises(ConnectionRefusedError):
        await pair.network.connect(pair.client, "s:1")


async def test_an_address_is_taken_once(autojump_clock: object) -> None:
    pair = _Pair()
    listener = pair.network.listen(pair.server, "s:1")
    with pytest.raises(OSError, match="in use"):
        pair.network.listen(pair.server, "s:1")
    await listener.aclose()
    assert pair.network.listen(pair.server, "s:0").address != "s:0"
    with pytest.raises(OSError, match="not ours"):
        pair.network.listen(pair.server, "c:1")


async def test_a_broken_connection_gives_a_prefix_and_then_says_so(autojump_clock: object) -> None:
    pair = _Pair()
    near, far = await pair.open()
    sent = _packets(100_000)
    await near.send_all(sent)
    assert pair.network.break_connection(random.Random(1)) is not None
    received = bytearray()
    with pytest.raises(trio.BrokenResourceError):
        await _receive_into(received, far)
    assert sent.startswith(received)
    with pytest.raises(trio.BrokenResourceError):
        await near.send_all(sent)
    assert pair.network.break_connection(random.Random(1)) is None


async def test_a_partition_delays_until_it_heals(autojump_clock: object) -> None:
    pair = _Pair()
    near, far = await pair.open()
    pair.network.cut("c", "s")
    await near.send_all(_packets(10))
    with trio.move_on_after(100) as scope:
        await far.receive_some()
    assert scope.cancelled_caught
    with trio.move_on_after(100) as scope:
        await pair.network.connect(pair.client, "s:1")
    assert scope.cancelled_caught
    pair.network.heal()
    with trio.fail_after(1):
        assert await far.receive_some()


async def test_one_way_lets_the_other_way_through(autojump_clock: object) -> None:
    pair = _Pair()
    near, far = await pair.open()
    pair.network.cut("c", "s", is_one_way=True)
    await far.send_all(_packets(10))
    with trio.fail_after(1):
        assert await near.receive_some()


async def test_a_killed_process_ends_its_connections(autojump_clock: object) -> None:
    pair = _Pair()
    near, far = await pair.open()
    pair.server.kill()
    with trio.fail_after(1):
        try:
            assert await near.receive_some() == b""
        except trio.BrokenResourceError:
            assert True, "either way the end is told"
    with pytest.raises(trio.BrokenResourceError):
        await near.send_all(_packets(1))
    with pytest.raises(Killed):
        await far.send_all(_packets(1))
    with pytest.raises(ConnectionRefusedError):
        await pair.network.connect(pair.client, "s:1")


async def test_after_a_power_cut_there_is_silence_until_the_machine_is_back(
    autojump_clock: object,
) -> None:
    pair = _Pair()
    near, _far = await pair.open()
    pair.server.kill(is_silent=True)
    await near.send_all(_packets(1))
    with trio.move_on_after(100) as scope:
        await near.receive_some()
    assert scope.cancelled_caught
    with trio.move_on_after(100) as scope:
        await pair.network.connect(pair.client, "s:1")
    assert scope.cancelled_caught
    pair.network.power_on("s")
    with trio.fail_after(1), pytest.raises(trio.BrokenResourceError):
        await near.receive_some()


async def test_a_close_here_wakes_who_receives_here(autojump_clock: object) -> None:
    near, _far = await _Pair().open()
    has_noticed = trio.Event()

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await near.receive_some()
        has_noticed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.sleep(1)
        await near.aclose()
    assert has_noticed.is_set()


async def test_last_words_are_waited_for(autojump_clock: object) -> None:
    for seed in range(20):
        pair = _Pair(seed)
        near, far = await pair.open()
        await near.send_all(_packets(50_000))
        pair.client.kill()
        with trio.move_on_after(5) as scope:
            await pair.network.wait_drained(pair.client)
        if not scope.cancelled_caught:
            continue
        await _receive_all(far)
        with trio.fail_after(1):
            await pair.network.wait_drained(pair.client)
        return
    pytest.fail("no seed left anything on its way")


async def test_the_trace_names_every_packet(autojump_clock: object) -> None:
    pair = _Pair()
    near, _far = await pair.open()
    await near.send_all(_packets(7) + _packets(0))
    shown = [line for line in pair.trace.lines if "StatFs" in line]
    assert len(shown) == 2
    assert shown[0].endswith("client    → server #1 StatFs  +7 B")


async def test_a_half_open_connection_says_nothing_to_either_end(autojump_clock: object) -> None:
    pair = _Pair()
    near, far = await pair.open()
    pair.network.lose_silently(random.Random(1))
    await near.send_all(_packets(10))
    await near.aclose()
    with trio.move_on_after(3600) as scope:
        await far.receive_some(4096)
    assert scope.cancelled_caught


async def test_a_slow_link_is_late_and_loses_nothing(autojump_clock: object) -> None:
    pair = _Pair()
    near, far = await pair.open()
    pair.network.slow("c", "s", 2.0)
    started_s = trio.current_time()
    await near.send_all(_packets(10))
    await near.aclose()
    assert await _receive_all(far) == _packets(10)
    assert trio.current_time() - started_s > 0.01
    pair.network.slow("c", "s", None)
    assert pair.network.delay_s(10, "c", "s") < 0.1


async def test_the_end_of_a_process_is_not_heard_over_a_half_open_connection(
    autojump_clock: object,
) -> None:
    pair = _Pair()
    near, _far = await pair.open()
    pair.network.lose_silently(random.Random(1))
    pair.network.drop_process(pair.server, is_silent=False)
    await near.send_all(_packets(10))
    with trio.move_on_after(3600) as scope:
        await near.receive_some(4096)
    assert scope.cancelled_caught


async def test_what_lingers_arrives_after_its_client_was_told_that_the_link_is_lost(
    autojump_clock: object,
) -> None:
    pair = _Pair()
    near, far = await pair.open()
    connection = pair.network.linger(random.Random(1), 5.0)
    assert connection is not None
    await near.send_all(_packets(10))
    pair.network.give_up(connection)
    with pytest.raises(trio.BrokenResourceError):
        await near.receive_some(4096)
    with pytest.raises(trio.BrokenResourceError):
        await near.send_all(_packets(10))
    received = bytearray()
    with pytest.raises(trio.BrokenResourceError):
        await _receive_into(received, far)
    assert bytes(received) == _packets(10)
    assert trio.current_time() >= 5.0


async def test_what_lingers_counts_as_last_words_when_its_client_dies(
    autojump_clock: object,
) -> None:
    pair = _Pair()
    near, far = await pair.open()
    connection = pair.network.linger(random.Random(1), 5.0)
    assert connection is not None
    await near.send_all(_packets(10))
    pair.network.give_up(connection)
    pair.client.kill()
    with trio.move_on_after(10) as scope:
        await pair.network.wait_drained(pair.client)
    assert scope.cancelled_caught
    assert await far.receive_some(4096) == _packets(10)
    with trio.fail_after(1):
        await pair.network.wait_drained(pair.client)
