from __future__ import annotations

import gzip
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from monai_cryo._refusals import is_refusal
from monai_cryo.templates.archive import cache_folder, fetch, locate

CONTENT = gzip.compress(np.random.default_rng(0).bytes(700_000), mtime=0)


class Archive(ThreadingHTTPServer):
    """Serves CONTENT under the archives' paths, with Range, and writes down what it was asked."""

    def __init__(self):
        self.asked, self.ranges, self.tag = [], [], '"v1"'
        self.break_after = None
        self.files = {"/4v5d.cif.gz": CONTENT, "/EMD-3883/map/emd_3883.map.gz": CONTENT}
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.path)
        server.ranges.append(self.headers.get("Range"))
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start, status = 0, 200
        if self.headers.get("Range") and self.headers.get("If-Range") == server.tag:
            start, status = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")), 206
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", server.tag)
        self.end_headers()
        end = len(content) if server.break_after is None else server.break_after
        self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def archive(monkeypatch, tmp_path):
    monkeypatch.setenv("MONAI_CRYO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    with Archive() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("pdb:4V5D", "pdb/4v5d.cif.gz"),
        ("emdb:3883", "emdb/emd_3883.map.gz"),
        ("emdb:EMD-3883", "emdb/emd_3883.map.gz"),
    ],
)
def test_fetch_once_and_locate(archive, source, path):
    with pytest.raises(FileNotFoundError, match=f"python -m monai_cryo templates fetch {source}$"):
        locate(source)
    file = fetch(source, base_url=archive.url + "/", progress=False)
    assert file == cache_folder() / path
    assert file.read_bytes() == CONTENT
    record = json.loads(file.with_name(file.name + ".json").read_text())
    assert record["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert record["size"] == len(CONTENT)
    assert record["url"].startswith(archive.url)
    assert locate(source) == file
    assert fetch(source, base_url=archive.url, progress=False) == file
    assert len(archive.asked) == 1
    assert sorted(p.name for p in file.parent.iterdir()) == sorted([file.name, file.name + ".json"])


@pytest.mark.parametrize("content", [b"\xff", b"{", b"[]", b"{}"])
def test_a_damaged_record_is_refused(archive, content):
    record = fetch("pdb:4v5d", base_url=archive.url, progress=False).with_name("4v5d.cif.gz.json")
    record.write_bytes(content)
    with pytest.raises(ValueError, match=r"json: no record of a download; delete it and 4v5d\.cif\.gz and") as error:
        fetch("pdb:4v5d", base_url=archive.url, progress=False)
    assert is_refusal(error.value)


def test_address_from_the_environment(archive, monkeypatch):
    monkeypatch.setenv("MONAI_CRYO_PDB_URL", archive.url)
    assert fetch("pdb:4v5d", progress=False).read_bytes() == CONTENT


def test_an_interrupted_download_goes_on(archive):
    archive.break_after = 200_000
    with pytest.raises(ConnectionError, match=r"pdb:4v5d: cannot download .*broke off after 200000 of"):
        fetch("pdb:4v5d", base_url=archive.url, progress=False)
    assert not (cache_folder() / "pdb" / "4v5d.cif.gz").exists()
    archive.break_after = None
    assert fetch("pdb:4v5d", base_url=archive.url, progress=False).read_bytes() == CONTENT
    assert archive.ranges == [None, "bytes=200000-"]


def test_a_file_that_changed_meanwhile_starts_over(archive):
    archive.break_after = 200_000
    with pytest.raises(ConnectionError):
        fetch("pdb:4v5d", base_url=archive.url, progress=False)
    archive.break_after, archive.tag = None, '"v2"'
    archive.files["/4v5d.cif.gz"] = changed = gzip.compress(CONTENT, mtime=0)
    assert fetch("pdb:4v5d", base_url=archive.url, progress=False).read_bytes() == changed


def test_a_part_that_was_complete_starts_over(archive):
    folder = cache_folder() / "pdb"
    folder.mkdir(parents=True)
    (folder / "4v5d.cif.gz.part").write_bytes(CONTENT)
    (folder / "4v5d.cif.gz.part.etag").write_text(archive.tag)
    assert fetch("pdb:4v5d", base_url=archive.url, progress=False).read_bytes() == CONTENT
    assert archive.ranges == [f"bytes={len(CONTENT)}-", None]


def test_progress_is_shown(archive, capsys):
    fetch("pdb:4v5d", base_url=archive.url)
    assert "pdb:4v5d: 100%" in capsys.readouterr().err


def test_refusals(archive):
    with pytest.raises(FileNotFoundError, match=r"pdb:9zzz: the archive has no such entry"):
        fetch("pdb:9zzz", base_url=archive.url, progress=False)
    archive.files["/1abc.cif.gz"] = b"<html>please log in</html>"
    with pytest.raises(ConnectionError, match="something else than a gzipped file"):
        fetch("pdb:1abc", base_url=archive.url, progress=False)
    assert not any((cache_folder() / "pdb").glob("*.gz"))
    file = fetch("pdb:4v5d", base_url=archive.url, progress=False)
    file.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match="SHA-256 differs"):
        fetch("pdb:4v5d", base_url=archive.url, progress=False)


def test_offline(archive):
    with pytest.raises(ConnectionError, match=r"emdb:3883: cannot download http://127.0.0.1:1/.*offline\?"):
        fetch("emdb:3883", base_url="http://127.0.0.1:1", progress=False)


@pytest.mark.parametrize("source", ["4v5d", "pdb:../../etc", "emdb:12", "foo:4v5d", "pdb:", "emdb:3883/../1"])
def test_not_an_entry(source):
    with pytest.raises(ValueError, match="an archive entry is pdb:4V5D or emdb:3883, got"):
        locate(source)
