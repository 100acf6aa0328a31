"""Goal: what is started for a run is gone after it, whatever happened, and errors are one line.
Method: a rival that is a shell script."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from click.testing import CliRunner, Result

from tools.bench.__main__ import main
from tools.bench.rivals import RIVALS, packages
from tools.bench.rivals.glusterfs import brick_count
from tools.bench.rivals.processes import Processes, last_line
from tools.bench.rivals.rival import RivalError
from tools.bench.targets import running_targets
from tools.bench.workloads import WORKLOADS, Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tools.bench.workloads import Sample

SERVE = "trap 'echo told; exit 0' TERM; echo ready; while :; do sleep 0.01; done"


class ScriptRival:
    """Two paths to a directory, and a script that stands for its servers."""

    name: ClassVar[str] = "script"
    copies_max: ClassVar[int] = 2
    script: ClassVar[str] = SERVE
    made: ClassVar[list[ScriptRival]] = []

    def __init__(self) -> None:
        self.processes: Processes | None = None
        self.directory: Path | None = None
        self.pid = 0
        self.made.append(self)

    def install(self, directory: Path, say: Callable[[str], None]) -> None:
        say("nothing to install")

    def start(self, directory: Path, copies: int) -> tuple[Path, Path]:
        self.directory = directory
        self.processes = processes = Processes(self.name, directory, {})
        command = ["sh", "-c", f"echo $$ >{directory}/pid; {self.script}"]
        processes.start("server", command)
        processes.wait_until("server", lambda: "ready" in processes.log("server"))
        self.pid = int((directory / "pid").read_text())
        (directory / "mnt0").mkdir()
        (directory / "mnt1").symlink_to("mnt0")
        return directory / "mnt0", directory / "mnt1"

    def stop(self) -> None:
        assert self.processes
        self.processes.stop()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the benchmark makes its directory; the rivals made are listed anew."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setattr(ScriptRival, "made", [])
    monkeypatch.setitem(RIVALS, "script", ScriptRival)
    return place


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--quick", "--rounds", "1"])


def assert_gone(temporary: Path) -> None:
    assert list(temporary.iterdir()) == []
    for rival in ScriptRival.made:
        assert not rival.pid or not is_running(rival.pid)


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended; who reaps it is not our matter."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_a_rival_by_name_is_measured_beside_a_directory_and_removed(
    tmp_path: Path, temporary: Path
) -> None:
    local = tmp_path / "local"
    local.mkdir()
    result = bench("script", "--against", str(local), "--only", "sqlite", "--only", "shared")
    assert result.exit_code == 0, result.output
    assert "sqlite commits" in result.output
    assert "ping-pong by rename" in result.output
    assert "local: shared skipped" in result.output
    assert_gone(temporary)


def test_what_can_be_started_is_listed_when_a_name_is_unknown() -> None:
    result = bench("nosuchfs")
    assert result.exit_code == 2
    assert (
        "neither a directory nor one of dfs, moosefs, glusterfs, juicefs, cephfs" in result.output
    )


def test_a_target_is_measured_once(tmp_path: Path) -> None:
    result = bench(str(tmp_path), "--against", str(tmp_path))
    assert result.exit_code == 2
    assert "each target only once" in result.output


def test_who_cannot_keep_so_many_copies_is_left_out(tmp_path: Path, temporary: Path) -> None:
    said: list[str] = []
    with running_targets(["script", str(tmp_path), "juicefs"], 3, said.append) as targets:
        assert [target.name for target in targets] == [str(tmp_path)]
    assert said == [
        "script: left out, it keeps 2 here and not 3 copies",
        "juicefs: left out, it keeps 1 here and not 3 copies",
    ]
    result = bench("script", "--copies", "3")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "bench: nothing is left to measure"
    assert_gone(temporary)


@pytest.mark.parametrize("script", ["echo no such disk >&2; exit 3", "exit 0"])
def test_a_rival_that_ends_at_once_is_one_clear_line(
    script: str, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptRival, "script", script)
    result = bench("script")
    assert result.exit_code == 1
    reason = "no such disk" if "disk" in script else "without a word"
    assert result.output.splitlines()[-1] == f"bench: script: server has ended: {reason}"
    assert_gone(temporary)


def interrupted(_directory: Path, _scale: Scale) -> Iterator[Sample]:
    os.kill(os.getpid(), signal.SIGTERM)
    yield from ()


def broken(_directory: Path, _scale: Scale) -> Iterator[Sample]:
    raise ValueError("a mistake of ours")


@pytest.mark.parametrize("workload", [interrupted, broken])
def test_nothing_is_left_after_an_interruption_or_a_mistake(
    workload: object, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WORKLOADS, "git", workload)  # type: ignore[arg-type]
    before = signal.getsignal(signal.SIGTERM)
    result = bench("script", "--only", "git")
    assert result.exit_code == 1
    assert "sqlite" not in result.output
    assert ScriptRival.made[0].pid
    assert_gone(temporary)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_interruption_does_not_stop_the_stopping(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = ScriptRival.stop

    def stop_while_interrupted(rival: ScriptRival) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        stop(rival)

    monkeypatch.setattr(ScriptRival, "stop", stop_while_interrupted)
    monkeypatch.setitem(WORKLOADS, "git", interrupted)  # type: ignore[arg-type]
    assert bench("script", "--only", "git").exit_code == 1
    assert_gone(temporary)


def test_one_that_cannot_be_stopped_does_not_keep_the_others_running(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stubborn(ScriptRival):
        name = "stubborn"

        def stop(self) -> None:
            super().stop()
            raise RivalError("stubborn: will not")

    monkeypatch.setitem(RIVALS, "stubborn", Stubborn)
    result = bench("script", "--against", "stubborn", "--only", "sqlite")
    assert result.exit_code == 0
    assert "stubborn: will not" in result.output
    assert len(ScriptRival.made) == 2
    assert_gone(temporary)


def test_who_does_not_end_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.bench.rivals.processes.END_PATIENCE_S", 1.0)
    processes = Processes("script", tmp_path, {})
    script = "trap '' TERM; sleep 1000 & echo $!; echo ready; while :; do sleep 0.01; done"
    processes.start("server", ["sh", "-c", script])
    processes.wait_until("server", lambda: "ready" in processes.log("server"))
    child = int(processes.log("server").splitlines()[0])
    processes.stop()
    assert not is_running(child)


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    processes = Processes("script", tmp_path, {})
    assert processes.run(["echo", "hello"]) == "hello\n"
    with pytest.raises(RivalError, match=r"^script: sh: no way$"):
        processes.run(["sh", "-c", "echo first; echo no way >&2; exit 1"])
    with pytest.raises(RivalError, match=r"^script: .*nosuchprogram"):
        processes.run(["nosuchprogram"])


def test_without_root_or_apt_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"sh": "dash", "nosuchprogram": "nosuchpackage"}
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(RivalError, match=r"^moosefs: .* needs root$"):
        packages.install_programs("moosefs", wanted, say=lambda _: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(RivalError, match=r"install by hand: dash nosuchpackage$"):
        packages.install_programs("moosefs", wanted, say=lambda _: None)


def test_an_installation_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "apt-get"
    script.write_text("#!/bin/sh\necho Reading lists\necho 'E: Unable to locate' >&2\nexit 100\n")
    script.chmod(0o755)
    policy = tmp_path / "policy"
    said: list[str] = []
    monkeypatch.setattr(packages, "SERVICE_POLICY", policy)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(RivalError) as caught:
        packages.install_programs("moosefs", {"nosuchprogram": "nosuchpackage"}, said.append)
    assert said == ["moosefs: apt-get install nosuchpackage"]
    assert str(caught.value) == (
        "moosefs: apt-get could not install nosuchpackage: E: Unable to locate"
    )
    assert not policy.exists()


@pytest.mark.parametrize(("copies", "bricks"), [(1, 3), (2, 4), (3, 3)])
def test_bricks_make_whole_sets_of_copies(copies: int, bricks: int) -> None:
    assert brick_count(copies) == bricks


def test_the_last_line_is_the_one_that_says_something() -> None:
    assert last_line("first\n second \n\n  \n") == "second"
    assert last_line("\n") == ""
