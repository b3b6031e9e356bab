"""The folder of a run belongs to one process, until that process ends."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from monai_cryo.io import check_folder, folder, hold_folder, working_folder

#: holds a folder, and leaves behind a worker that outlives it
OTHER = f"""
import os, runpy, sys
runpy.run_path({folder.__file__!r})["hold_folder"](sys.argv[1])
worker = os.fork()
if worker:
    print(worker, flush=True)
sys.stdin.read() if worker else __import__("time").sleep(60)
"""


@contextmanager
def other_process(place):
    """Hold a folder elsewhere; yields that process and its worker."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    worker = int(process.stdout.readline())
    try:
        yield process
    finally:
        process.kill()
        os.kill(worker, 9)
        process.communicate()


def test_a_held_folder_is_refused_and_a_killed_run_leaves_no_lock(tmp_path):
    half = tmp_path / f".{'0' * 32}.checkpoint.pt"
    with other_process(tmp_path) as process:
        half.write_bytes(b"being written")
        with pytest.raises(ValueError, match=f"another process is at work in {tmp_path}: wait"):
            hold_folder(tmp_path)
        assert half.exists()  # it is the other's
        process.kill()
        process.wait()
        hold_folder(tmp_path)  # though its worker still runs
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    hold_folder(tmp_path)  # this process has it already


def test_a_working_folder_is_one_processs_own_and_gone_at_the_end(tmp_path):
    place = tmp_path / "part"
    with other_process(place):
        (place / "theirs").write_text("")
        with pytest.raises(ValueError, match=f"another process is at work in {place}"), working_folder(place):
            pass
        assert (place / "theirs").exists()
    for _ in range(2):
        with working_folder(place) as folder:
            assert [path.name for path in folder.iterdir()] == [".lock"]
            (folder / "in").mkdir()
            (folder / "in" / "file").write_text("")
        assert not place.exists()


def test_what_is_no_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    check_folder(tmp_path / "new" / "folder")
    for place in (tmp_path / "file", tmp_path / "file" / "inner"):
        for refuse in (check_folder, hold_folder):
            with pytest.raises(ValueError, match=f"cannot be the output folder: {tmp_path / 'file'} is a file"):
                refuse(place)
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # the superuser may write everywhere
    with pytest.raises(ValueError, match=f"cannot be the output folder: no permission in {tmp_path}"):
        check_folder(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", none)
    with pytest.warns(UserWarning, match="cannot be locked \\(No locks available\\): no other process must"):
        hold_folder(tmp_path)


def test_what_the_file_system_refuses_is_one_line():
    with pytest.raises(ValueError, match="/proc/run cannot be the output folder: No such file"):
        hold_folder("/proc/run")
