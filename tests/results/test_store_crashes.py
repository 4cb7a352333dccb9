"""What the store survives: other processes, kill -9 at any moment, a full or read-only disk."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import results
from results.store import CellKey, Store, StoreError

PRELUDE = """
import os, random, signal, sys, time
from dataclasses import asdict
from pathlib import Path
from results.schema import Row
from results.store import CellKey, Store, StoreError

def rows(seed, n=3):
    known = {"budget": "smoke", "family": "f", "family_version": "1", "method": "m"}
    known |= {"method_version": 1, "variant": "", "config_hash": "0", "seed": seed}
    return [Row(**known, stage="train", env_steps=steps) for steps in range(n)]

def key(name):
    return CellKey("train", None, None, str(name))

def write(store, name, seed, status="ok", size=1000):
    store.write(key(name), rows(seed), state=bytes([seed % 256]) * size, log=str(seed),
                record={"status": status, "seed": seed})

def plan(seeds):
    place = {"budget": "smoke", "family": "f", "split": "s", "method": "m", "variant": ""}
    slots = [
        {"slot": {**place, "seed": seed}, "key": asdict(key(seed)), "train_key": None}
        for seed in seeds
    ]
    return {"suite": "ood", "suite_version": 1, "question": "?", "arms": ["m"], "cells": slots}
"""


@pytest.fixture
def start(tmp_path):
    """Start a Python process that runs `script` after the prelude; kill what is left at the end."""
    environment = {**os.environ, "PYTHONPATH": str(Path(results.__file__).parents[1])}
    running = []

    def start(script, *arguments, before=()):
        command = [
            *before,
            sys.executable,
            "-c",
            PRELUDE + textwrap.dedent(script),
            *map(str, arguments),
        ]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running.append(subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def finish():
    """Wait for a process and return what it printed."""

    def finish(process):
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out

    return finish


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


def key(name):
    return CellKey("train", None, None, str(name))


def temporary_files(store):
    return list(store.root.rglob(".*.tmp"))


def check_whole(store, name):
    """Check that a cell is one of the records written for it, or none; return its status."""
    status = store.status(key(name))
    if status in ("done", "failed"):
        seed = store.record(key(name))["seed"]
        assert store.rows(key(name))["seed"].tolist() == [seed] * 3
        assert set(store.state(key(name))) == {seed % 256}
        assert (store.root / key(name).folder / "log.txt").read_text() == str(seed)
    return status


# Dies at the n-th call of one system call, just before or just after it, while a finished record
# replaces a failed one. Forking avoids importing pandas anew for every death.
DIE_AT_EVERY_CALL = """
    store = Store(Path(sys.argv[1]), create=False)
    for call in ("open", "fsync", "replace", "unlink"):
        for after in (False, True):
            for n in range(8):
                name = f"{call}-{after}-{n}"
                write(store, name, 1, "failed")
                if os.fork():
                    print(name, os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
                    continue
                real, calls = getattr(os, call), [0]
                def fatal(*args, **kwargs):
                    result = real(*args, **kwargs) if after else None
                    if calls[0] == n:
                        os.kill(os.getpid(), signal.SIGKILL)
                    calls[0] += 1
                    return result if after else real(*args, **kwargs)
                setattr(os, call, fatal)
                write(store, name, 2)
                os._exit(0)
"""


def test_a_death_at_any_system_call_leaves_a_whole_record_or_none(store, start, finish):
    exits = dict(line.split() for line in finish(start(DIE_AT_EVERY_CALL, store.root)).splitlines())
    seen = {
        check_whole(store, name) for name, code in exits.items() if code == str(-signal.SIGKILL)
    }
    # the crashes did fall before, within and after the exchange
    assert {"failed", "missing", "done"} <= seen
    assert all(check_whole(store, name) == "done" for name, code in exits.items() if code == "0")
    assert temporary_files(store)
    again = (
        "store = Store(Path(sys.argv[1]), create=True)\nfor name in sys.argv[2:]: write(store,"
        " name, 3)"
    )
    finish(start(again, store.root, *exits))
    assert {check_whole(store, name) for name in exits} == {"done"}
    assert temporary_files(store) == []


DIE_AT_A_RANDOM_TIME = """
    store = Store(Path(sys.argv[1]), create=False)
    moments = random.Random(0)
    for trial in range(25):
        child = os.fork()
        if not child:
            for seed in range(1, 10_000):
                write(store, trial, seed, "failed", size=200_000)
        time.sleep(moments.uniform(0.005, 0.08))
        os.kill(child, signal.SIGKILL)
        os.wait()
"""


def test_a_death_at_a_random_time_leaves_a_whole_record_or_none(store, start, finish):
    finish(start(DIE_AT_A_RANDOM_TIME, store.root))
    assert {check_whole(store, trial) for trial in range(25)} <= {"failed", "missing"}
    for trial in range(25):
        with store.claim(key(trial)) as mine:
            assert mine
    assert temporary_files(store) == []


DIE_IN_A_PLAN = """
    store = Store(Path(sys.argv[1]), create=False)
    store.write_plan(plan([0]))
    for call in ("open", "fsync", "replace"):
        for n in range(3):
            if os.fork():
                os.wait()
                assert 0 in [cell["slot"]["seed"] for cell in store.plans()[0]["cells"]]
                continue
            real, calls = getattr(os, call), [0]
            def fatal(*args, **kwargs):
                if calls[0] == n:
                    os.kill(os.getpid(), signal.SIGKILL)
                calls[0] += 1
                return real(*args, **kwargs)
            setattr(os, call, fatal)
            store.write_plan(plan([1]))
            os._exit(0)
    store.write_plan(plan([1, 2]))
"""


def test_a_death_while_planning_loses_no_plan(store, start, finish):
    finish(start(DIE_IN_A_PLAN, store.root))
    assert [cell["slot"]["seed"] for cell in store.plans()[0]["cells"]] == [0, 1, 2]
    assert temporary_files(store) == []


def test_a_claim_dies_with_its_process(store, start):
    hold = """
        with Store(Path(sys.argv[1]), create=False).claim(key(1)) as mine:
            print(mine, flush=True)
            time.sleep(99)
    """
    holder = start(hold, store.root)
    assert holder.stdout.readline() == "True\n"
    with store.claim(key(1)) as mine, store.claim(key(2)) as other:
        assert (mine, other) == (False, True)
    holder.kill()
    holder.wait()
    with store.claim(key(1)) as mine:
        assert mine


RACE = """
    store = Store(Path(sys.argv[1]), create=True)
    me = int(sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()
    for name in range(30):
        with store.claim(key(name)) as mine:
            if mine and store.status(key(name)) != "done":
                write(store, name, me)
                print(name)
    for seed in range(me, 20, 3):
        store.write_plan(plan([seed]))
"""


def test_processes_share_the_work_without_doing_anything_twice(tmp_path, start, finish):
    root = tmp_path / "store"  # created by all three workers at once
    workers = [start(RACE, root, me) for me in range(3)]
    assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 3
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    done = sorted(int(name) for worker in workers for name in finish(worker).split())
    store = Store(root, create=False)
    assert done == list(range(30)) and {check_whole(store, name) for name in done} == {"done"}
    assert sorted(cell["slot"]["seed"] for cell in store.plans()[0]["cells"]) == list(range(20))


def test_two_writers_of_one_cell_leave_one_record(store, start, finish):
    script = (
        "store = Store(Path(sys.argv[1]), create=False)\nfor name in range(20): write(store, name,"
        " int(sys.argv[2]))"
    )
    for worker in [start(script, store.root, seed) for seed in (1, 2)]:
        finish(worker)
    assert {check_whole(store, name) for name in range(20)} == {"done"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize(
    ("nth", "left"), [*((nth, "failed") for nth in range(4)), (4, "missing"), (5, "done")]
)
def test_an_error_of_the_disk_leaves_a_whole_record_or_none(store, monkeypatch, code, nth, left):
    def write(status):
        store.write(key(1), [], state=b"x", log="", record={"status": status})

    write("failed")
    calls, real = [], os.fsync

    def failing(descriptor):
        calls.append(descriptor)
        if len(calls) == nth + 1:
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StoreError, match=r"^[^\n]+: [^\n]+(another folder|kept)$"):
        write("ok")
    assert store.status(key(1)) == left and temporary_files(store) == []
    monkeypatch.undo()
    write("ok")
    assert store.status(key(1)) == "done"


@pytest.fixture
def small_disk(tmp_path):
    """A command prefix that runs a process with a real, private 256 kB file system at `disk`."""
    (tmp_path / "disk").mkdir()
    prefix = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        'mount -t tmpfs -o size=256k none disk && exec "$@"',
        "sh",
    ]
    try:
        possible = (
            subprocess.run(
                [*prefix, "true"], cwd=tmp_path, capture_output=True, timeout=30
            ).returncode
            == 0
        )
    except OSError:
        possible = False
    if not possible:
        pytest.skip("no mount of one's own on this machine")
    return prefix


def test_a_full_disk(small_disk, start, finish):
    script = """
        store = Store(Path("disk/store"), create=True)
        write(store, "small", 1)
        for name, size in (("large", 300_000), ("small", 10), ("fits", 50_000)):
            try:
                write(store, name, 2, size=size)
            except StoreError as error:
                print(error)
            print(store.status(key(name)), list(store.root.rglob(".*.tmp")))
        Path("disk/ballast").write_bytes(bytes(4096 * 12))
        try:
            with open("disk/rest", "wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        except OSError:
            pass
        try:
            Store(Path("disk/store"), create=True)
        except StoreError as error:
            print(error)
        print(Store(Path("disk/store"), create=False).status(key("small")))
    """
    lines = finish(start(script, before=small_disk)).splitlines()
    full = "the disk or the quota is full: free some space and run again, finished cells are kept"
    assert lines == [
        f"disk/store/train/large: {full}",
        "missing []",
        "done []",
        "done []",
        f"disk/store: {full}",
        "done",
    ]


def test_a_disk_that_cannot_be_written_to_can_be_read(small_disk, start, finish):
    script = """
        import subprocess
        store = Store(Path("disk/store"), create=True)
        write(store, 1, 1)
        store.write_plan(plan([1, 2]))
        subprocess.run(["mount", "-o", "remount,ro", "disk"], check=True)
        attempts = (
            lambda: Store(Path("disk/store"), create=True),
            lambda: Store(Path("disk/new"), create=True),
            lambda: write(store, 3, 3),
            lambda: store.write_plan(plan([4])),
            lambda: store.claim(key(5)).__enter__(),
            lambda: store.claim(key(1)).__enter__(),
        )
        for attempt in attempts:
            try:
                attempt()
            except StoreError as error:
                print("permission denied" in str(error), "another folder" in str(error))
        seen = Store(Path("disk/store"), create=False)
        print(len(seen.read()[0]), seen.read()[1]["status"].tolist(), seen.status(key(1)))
    """
    lines = finish(start(script, before=small_disk)).splitlines()
    assert lines == ["True True"] * 6 + ["3 ['done', 'missing'] done"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    Store(tmp_path / "store", create=True)
    for folder in (tmp_path / "store", tmp_path):
        folder.chmod(0o555)
    try:
        for path in (tmp_path / "store", tmp_path / "new"):
            with pytest.raises(StoreError, match=r"permission denied.*another folder"):
                Store(path, create=True)
        assert Store(tmp_path / "store", create=False).plans() == []
    finally:
        for folder in (tmp_path, tmp_path / "store"):
            folder.chmod(0o755)


def test_a_snapshot_that_does_not_fit_leaves_the_one_before(small_disk, start, finish):
    script = """
        store = Store(Path("disk/store"), create=True)
        with store.claim(key(1)):
            header = {"belongs": {}, "facts": {}, "env_steps": 1, "steps": 9, "updates": 0}
            store.save(key(1), {**header, "n": 1}, bytes(60_000))
            for n, size in ((2, 200_000), (3, 100_000)):
                try:
                    store.save(key(1), {**header, "n": n}, bytes(size))
                except StoreError as error:
                    print(error)
                found = store.saved(key(1))
                state = store.saved_state(key(1), found)
                print(found["n"], len(state), len(list(store.root.rglob("snapshot*"))))
            print(list(store.root.rglob(".*.tmp")))
    """
    lines = finish(start(script, before=small_disk)).splitlines()
    full = "the disk or the quota is full: free some space and run again, finished cells are kept"
    assert lines == [f"disk/store/train/1: {full}", "1 60000 2", "3 100000 2", "[]"]
