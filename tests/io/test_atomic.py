from __future__ import annotations

from pathlib import Path

import pytest

from monai_cryo.io.atomic import replacing, write_text


def test_text_replaces_what_was_there_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    write_text(path, "Å\n")
    assert path.read_bytes() == "Å\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("old")

    def break_off() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("full disk")

    with pytest.raises(RuntimeError, match="full disk"):
        break_off()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_name_keeps_the_suffixes(tmp_path: Path) -> None:
    with replacing(tmp_path / "map.mrc.gz") as temporary:
        assert temporary.suffixes[-2:] == [".mrc", ".gz"]
        assert temporary.parent == tmp_path
        temporary.write_text("x")
    assert (tmp_path / "map.mrc.gz").is_file()


def test_a_missing_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"), replacing(tmp_path / "no" / "file.txt"):
        raise AssertionError("the block must not run")
