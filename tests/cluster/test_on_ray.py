"""A Ray cluster of three nodes on this machine, one of which is lost."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmark.arguments import InputError
from benchmark.executors import Means, TimeLimitError
from benchmark.local import stages_of
from benchmark.on_ray import RayExecutor
from benchmark.planning import Request, plan_of
from benchmark.plugins import registered_methods
from benchmark.suites import BUDGETS, SUITES
from results.store import Store

ray = pytest.importorskip("ray")
clusters = pytest.importorskip("ray.cluster_utils")
MEANS = Means(2, 1, save_every_s=0.5, jobs_given=True)


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Any]:
    """A head without CPUs, for the driver, and two nodes of one CPU each."""
    memory = 100 * 2**20
    cluster = clusters.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": memory}
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=memory)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def run(cluster: Any, tmp_path: Path) -> Callable[..., Any]:
    """`(means, note)`: run the cells of `expected` on the cluster; return the executor's table."""
    methods = {name: registered_methods()[name] for name in ("td3", "zero")}
    methods["patient"] = "patient_method:Patient"
    request = Request(SUITES["ood"], BUDGETS["smoke"], methods, ["point-goal"], 2, {})
    store = Store(tmp_path / "store", create=True)

    def run(
        means: Means = MEANS,
        note: Any = lambda text: None,
        show: Any = lambda table: None,
        force: bool = False,
    ) -> Any:
        attempt = store.write_plan(plan_of(request.suite, methods, request.cells(), request))
        executor = RayExecutor(store, means, note=note, force=force)
        return executor.run(stages_of(request.cells(), attempt), show)

    return run


def test_its_rows_are_those_of_a_run_on_one_machine(
    run: Any, tmp_path: Path, rows_of: Any, expected: pd.DataFrame
) -> None:
    table = run()
    assert {entry.state for entry in table} == {"done"}, [entry.error for entry in table]
    pd.testing.assert_frame_equal(rows_of(tmp_path / "store"), expected)
    assert all(entry.finished_before for entry in run())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("store/*/**/cell.json")}
    assert not any(entry.finished_before for entry in run(force=True))
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("store/*/**/cell.json")}
    assert before.keys() == after.keys() and all(before[path] < after[path] for path in before)
    pd.testing.assert_frame_equal(rows_of(tmp_path / "store"), expected)


def test_a_run_that_is_stopped_brings_what_was_done_and_the_next_goes_on(
    run: Any, tmp_path: Path, rows_of: Any, expected: pd.DataFrame
) -> None:
    stopped: list[Any] = []

    def stop(table: Any) -> None:
        at_work = [entry for entry in table if entry.state == "running" and entry.used > 20]
        if patient := [entry for entry in at_work if entry.stage.cell.method == "patient"]:
            stopped.extend(entry.stage for entry in patient)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Means(2, 1, save_every_s=600.0, jobs_given=True), show=stop)
    for stage in stopped:
        assert (tmp_path / "store" / stage.key.folder / "snapshot.json").exists()
    told: list[str] = []
    run(note=told.append)
    assert all(any(line.startswith(f"resumed {stage}") for line in told) for stage in stopped), told
    pd.testing.assert_frame_equal(rows_of(tmp_path / "store"), expected)


def test_the_time_limit_ends_it(run: Any) -> None:
    with pytest.raises(TimeLimitError):
        run(Means(2, 1, time_limit_s=0.0, jobs_given=True))


def test_the_stage_of_a_lost_node_goes_on_elsewhere_from_what_it_had_saved(
    run: Any, cluster: Any, tmp_path: Path, rows_of: Any, expected: pd.DataFrame
) -> None:
    told: list[str] = []
    removed = threading.Event()

    def show(table: Any) -> None:
        saved = any(entry.kept and entry.stage.cell.method == "patient" for entry in table)
        both = sum(entry.state == "running" for entry in table) == 2
        if saved and both and not removed.is_set():
            removed.set()
            cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
            cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)

    began = time.monotonic()
    table = run(note=told.append, show=show)
    assert time.monotonic() - began < 300 and removed.is_set()
    assert {entry.state for entry in table} == {"done"}, [entry.error for entry in table]
    assert any(
        "lost the process of" in line and "the stage goes on elsewhere" in line for line in told
    ), told
    pd.testing.assert_frame_equal(rows_of(tmp_path / "store"), expected)


def test_where_there_is_no_cluster_it_says_so(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise ConnectionError("Could not find any running\nRay instance.")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(InputError, match="Ray: Could not find any running Ray instance"):
        RayExecutor(Store(tmp_path / "store", create=True), MEANS, address="auto")
