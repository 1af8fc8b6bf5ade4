"""The same jobs on a real Dask cluster, whose workers die, join and leave."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.atlas.runs import digest, drive, finished, processes, reasons, run, until, workers_of

from whynet.atlas.cluster import Cluster, check_address
from whynet.atlas.execution import LOST, Execution
from whynet.core.errors import InputError

distributed = pytest.importorskip("distributed")

AXES: dict[str, Any] = {"size": [50, 80], "shift": [0.0, 1.0], "pause": [0.05], "seeds": 16}
CELLS = 2 * 2 * 2 * 16
FAST = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s",
    "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "error",
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("clean") / "store"
    run(out, **AXES)
    return digest(out)


def dask(*words: str) -> subprocess.Popen[bytes]:
    """Start what a user would type as `dask scheduler` or `dask worker`."""
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *words],
        env={**os.environ, **FAST},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextmanager
def cluster(
    folder: Path, workers: int = 2, protocol: str = "tcp"
) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Run a scheduler and workers as processes of their own; the scheduler stands first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{protocol}://127.0.0.1:{free.getsockname()[1]}"
    with ExitStack() as stack:
        started: list[subprocess.Popen[bytes]] = []

        def end(one: subprocess.Popen[bytes]) -> None:
            with suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
            one.wait()

        port = address.rpartition(":")[2]
        words = ("--host", "127.0.0.1", "--port", port, "--no-dashboard", "--protocol", protocol)
        started.append(dask("scheduler", *words))
        stack.callback(end, started[0])
        until(lambda: answers(int(port)))
        for _ in range(workers):
            one = dask(
                "worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard",
                "--death-timeout", "60", "--local-directory", str(folder),
            )  # fmt: skip
            started.append(one)
            stack.callback(end, one)
        yield address, started


def answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def below(parent: int) -> list[int]:
    """Return the Dask worker that a nanny keeps."""
    return [
        p for p in processes("multiprocessing.spawn import spawn_main") if parent_of(p) == parent
    ]


def parent_of(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def kill_some(nannies: list[int], times: int, stop: threading.Event, done: list[int]) -> None:
    chance = random.Random(times)
    while len(done) < times and not stop.wait(chance.uniform(0.5, 1.5)):
        for worker in below(chance.choice(nannies)):
            try:
                os.kill(worker, signal.SIGKILL)
                done.append(worker)
            except ProcessLookupError:
                continue


def run_while_workers_are_killed(folder: Path, times: int, axes: dict[str, Any]) -> int:
    """Run the claim on a scheduler addressed as a user would; returns how many were killed."""
    with cluster(folder / "dask") as (address, started):
        nannies = [one.pid for one in started[1:]]
        stop, done = threading.Event(), list[int]()
        killer = threading.Thread(target=kill_some, args=(nannies, times, stop, done))

        def told(count: int, cells: int, what: str) -> None:
            if count and not killer.is_alive() and not done:
                killer.start()

        try:
            record = run(
                folder / "store", execution=Execution(scheduler=address), progress=told, **axes
            )
        finally:
            stop.set()
            if killer.ident is not None:
                killer.join()
        assert not record.failed and not record.stopped
        until(lambda: not workers_of(*nannies), 10)
    return len(done)


def test_workers_that_are_killed_change_nothing(tmp_path: Path, clean: str) -> None:
    assert run_while_workers_are_killed(tmp_path, 3, AXES) >= 1
    assert digest(tmp_path / "store") == clean


@pytest.mark.endurance
def test_twenty_workers_that_are_killed_change_nothing(tmp_path: Path) -> None:
    axes = {**AXES, "seeds": 200}
    run(tmp_path / "clean", **axes)
    assert run_while_workers_are_killed(tmp_path, 20, axes) == 20
    assert digest(tmp_path / "store") == digest(tmp_path / "clean")


def test_on_a_local_cluster_failures_are_recorded_and_the_rest_goes_on(tmp_path: Path) -> None:
    axes: dict[str, Any] = {"size": [50], "shift": [1.0], "seeds": 4, "controls": False}
    faults = ["none", "raise", "nan", "hang", "die"]
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, host="127.0.0.1",
        dashboard_address=None, local_directory=str(tmp_path / "dask"),
    ) as local:  # fmt: skip
        how = Execution(scheduler=local.scheduler_address, timeout=3.0)
        record = run(tmp_path / "store", execution=how, fault=faults, **axes)
    words = reasons(record)
    assert words["hang"] == "experiment did not end within 3 s, and was stopped."
    assert words["die"].startswith("experiment: its process died 3 times")
    assert words["raise"].startswith("experiment raised RuntimeError: told to ")
    assert words["nan"] == "experiment: mean is not finite." and set(words) == set(faults[1:])
    assert finished(tmp_path / "store") == 4 + 3


def test_a_group_that_kills_its_dask_workers_fails_alone(tmp_path: Path) -> None:
    with cluster(tmp_path / "dask") as (address, _):
        axes: dict[str, Any] = {"size": [50], "shift": [1.0], "seeds": 4, "controls": False}
        how = Execution(scheduler=address)
        record = run(tmp_path / "s", execution=how, fault=["none", "kill-parent"], **axes)
    assert reasons(record)["kill-parent"].startswith("experiment: KilledWorker: ")
    assert finished(tmp_path / "s") == 4 and not record.stopped


def test_a_job_that_the_scheduler_forgets_is_handed_over_again(
    tmp_path: Path, clean: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where workers die while they answer: the task is gone, and the scheduler is not."""
    dropped: list[int] = []
    submit = Cluster._submit

    def forgetful(self: Cluster, job: Any, completed: Any, tries: int = 1) -> None:
        submit(self, job, completed, tries)
        if len(dropped) < 2:
            dropped.append(tries)
            next(reversed(self._pending)).cancel(force=True)

    monkeypatch.setattr(Cluster, "_submit", forgetful)
    with cluster(tmp_path / "dask", workers=1) as (address, _):
        record = run(tmp_path / "store", execution=Execution(scheduler=address), **AXES)
    assert dropped and not record.failed and not record.stopped
    assert digest(tmp_path / "store") == clean


def test_workers_join_and_leave_and_the_scheduler_is_lost(tmp_path: Path, clean: str) -> None:
    with cluster(tmp_path / "dask", workers=1) as (address, started):

        def told(count: int, cells: int, what: str) -> None:
            if count >= CELLS // 4 and started[0].poll() is None:
                os.killpg(started[0].pid, signal.SIGKILL)
                started[0].wait()

        record = run(
            tmp_path / "store", execution=Execution(scheduler=address), progress=told, **AXES
        )
    assert record.stopped == LOST and not record.failed
    assert CELLS // 4 <= finished(tmp_path / "store") < CELLS
    run(tmp_path / "store", **AXES)
    assert digest(tmp_path / "store") == clean


def test_an_interrupt_leaves_the_cluster_idle(tmp_path: Path) -> None:
    with cluster(tmp_path / "dask") as (address, started):
        driver = drive(tmp_path / "store", {**AXES, "pause": [1.0]}, scheduler=address)
        until(lambda: finished(tmp_path / "store") > 0 or driver.poll() is not None)
        driver.send_signal(signal.SIGINT)
        driver.communicate(timeout=5)
        assert driver.returncode == 130
        until(lambda: not workers_of(*(one.pid for one in started)), 5)


def test_certificates_of_dask_configuration_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler wants one; a driver that has none is refused."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=whynet", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    axes: dict[str, Any] = {"size": [50], "shift": [1.0], "seeds": 4, "controls": False}
    with monkeypatch.context() as context:
        context.setenv("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", str(certificate))
        context.setenv("DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION", "True")
        for who in ("SCHEDULER", "WORKER", "CLIENT"):
            context.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{who}__KEY", str(key))
            context.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{who}__CERT", str(certificate))
        with cluster(tmp_path / "dask", workers=1, protocol="tls") as (address, _):
            driver = drive(tmp_path / "store", axes, scheduler=address)
            _, said = driver.communicate(timeout=90)
            assert driver.returncode == 0, said
            context.undo()
            with pytest.raises(InputError, match=r"^scheduler: found "):
                run(tmp_path / "other", execution=Execution(scheduler=address), **axes)
    assert finished(tmp_path / "store") == 4


@pytest.mark.parametrize(
    "address",
    ["tcp://10.0.0.7:8786", "10.0.0.7:8786", "tcp://127.0.0.1.example.org:1", "ws://h:1", "h:1"],
)
def test_an_unencrypted_address_of_another_machine_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="unencrypted address of another machine"):
        check_address(address, insecure=False)
    check_address(address, insecure=True)


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:1", "localhost:1", "tcp://[::1]:1", "tls://10.0.0.7:8786"]
)
def test_an_address_here_or_an_encrypted_one_is_taken(address: str) -> None:
    check_address(address, insecure=False)


def test_nobody_answering_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whynet.atlas.cluster.PATIENCE", 1.0)
    with pytest.raises(InputError, match=r"^scheduler: found .*wanted the address of a running"):
        run(tmp_path, execution=Execution(scheduler="tcp://127.0.0.1:9"))
