"""Servers that answer anything but the file: each is named, and nothing is left behind."""

import hashlib
import itertools
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from data_files import MNIST_NAMES, peak_memory
from malformed_archives import BATCH, GOOD, NAME
from malformed_bytes import HTML, gzip_bomb
from malformed_run import in_process

import dltrain.data.download as downloads
from dltrain.data.cifar10 import CIFAR10
from dltrain.data.download import Remote, download
from dltrain.data.mnist import MNIST

CONTENT = bytes(range(256)) * 4000
SIZE = len(CONTENT)


class Handler(BaseHTTPRequestHandler):
    """Answers as the first part of the path says."""

    sent: ClassVar[list[int]] = []

    def do_GET(self):
        kind = self.path.split("/")[1]
        try:
            getattr(self, kind)()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has had enough

    def answer(self, body, length=None, code=200, **headers):
        self.send_response(code, headers.pop("reason", None))
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in body:
            self.wfile.write(piece)
            self.sent.append(len(piece))

    def good(self):
        self.answer([CONTENT], SIZE)

    def absent(self):
        self.send_error(404)

    def broken(self):
        self.send_error(500)

    def rude(self):
        self.answer([], 0, 404, reason="\x1b[2J" + "no" * 2000)

    def elsewhere(self):
        self.answer([], 0, 302, Location="file:///etc/passwd")

    def round_and_round(self):
        self.answer([], 0, 302, Location=self.path)

    def truncated(self):
        self.answer([CONTENT[:1000]], SIZE)

    def nothing(self):
        self.answer([], 0)

    def too_long_announced(self):
        self.answer([CONTENT], SIZE + 1000)

    def too_short_announced(self):
        self.answer([CONTENT], 1000)

    def no_length(self):
        self.answer([CONTENT[:-1]])

    def length_of_words(self):
        self.answer([CONTENT[:-1]], "plenty")

    def endless(self):
        self.answer(itertools.repeat(bytes(1 << 16)), 1 << 60)

    def page(self):
        self.answer([HTML], len(HTML))

    def wrong(self):
        self.answer([CONTENT[::-1]], SIZE)

    def bomb(self):
        body = gzip_bomb(CONTENT, 1 << 30)
        self.answer([body], len(body), **{"Content-Encoding": "gzip"})

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def remote(server: str, *kinds: str, name: str = "file") -> Remote:
    checksum = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
    return Remote(name, tuple(f"{server}/{kind}/{name}" for kind in kinds), SIZE, checksum)


BAD = {
    "absent": "HTTP Error 404",
    "broken": "HTTP Error 500",
    "rude": r"HTTP Error 404: \?\[2Jnono",
    "elsewhere": "redirection|not allowed",
    "round_and_round": "redirect",
    "truncated": "1,000 of the expected 1,024,000 bytes|IncompleteRead",
    "nothing": "0 of the expected 1,024,000 bytes",
    "too_short_announced": "1,000 of the expected 1,024,000 bytes",
    "no_length": "1,023,999 of the expected",
    "length_of_words": "of the expected 1,024,000 bytes",
    "endless": "more than the expected 1,024,000 bytes",
    "page": "of the expected 1,024,000 bytes",
    "wrong": "its md5 is .*, expected ",
    "bomb": "more than the expected 1,024,000 bytes|its md5|of the expected",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_answer_is_named_and_leaves_nothing(tmp_path, server, kind):
    with peak_memory(16 << 20), pytest.raises(FileNotFoundError, match=BAD[kind]) as caught:
        download(remote(server, kind), tmp_path / "a" / "b")
    message = str(caught.value)
    assert f"{server}/{kind}/file" in message
    assert str(tmp_path / "a" / "b") in message
    assert len(message) < 1000
    assert "\x1b" not in message
    assert list(tmp_path.iterdir()) == []


def test_the_last_of_bad_mirrors_may_be_good(tmp_path, server):
    assert download(remote(server, *BAD, "good"), tmp_path).read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_folders_that_were_there_stay(tmp_path, server):
    (tmp_path / "a").mkdir()
    with pytest.raises(FileNotFoundError):
        download(remote(server, "absent"), tmp_path / "a" / "b" / "c")
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]


def test_a_drip_is_not_waited_for(tmp_path, monkeypatch):
    """Each byte would come well within the timeout of the socket."""
    monkeypatch.setattr(downloads, "_TIMEOUT_SEC", 0)

    class Drip:
        def read1(self, limit: int) -> bytes:
            return b"a"

    pieces = downloads._not_too_slow(Drip())
    assert next(pieces) == b"a"
    with pytest.raises(TimeoutError, match=r"less than 32,768 bytes came in 0 s"):
        next(pieces)


@pytest.mark.parametrize(("name", "cls"), [("mnist", MNIST), ("cifar10", CIFAR10)])
def test_a_dataset_that_cannot_be_fetched_leaves_its_root_as_it_was(
    tmp_path, server, monkeypatch, name, cls
):
    names = [f"{each}.gz" for each in MNIST_NAMES] if cls is MNIST else ["cifar-10-python.tar.gz"]
    remotes = tuple(remote(server, "absent", "page", "wrong", name=each) for each in names)
    monkeypatch.setattr(cls, "files", remotes)
    dataset = in_process(name, tmp_path / "root")
    dataset.download = True
    with pytest.raises(FileNotFoundError) as caught:
        dataset.load()
    assert str(caught.value).count("\n") < 6
    assert all(f"{server}/{kind}/" in str(caught.value) for kind in ("absent", "page", "wrong"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_fetched_and_is_no_archive_is_refused_by_name(tmp_path, server, monkeypatch):
    """As published, says the checksum: then the publisher is wrong."""
    name = "cifar-10-python.tar.gz"
    monkeypatch.setattr(CIFAR10, "files", (remote(server, "good", name=name),))
    dataset = in_process("cifar10", tmp_path)
    dataset.download = True
    with pytest.raises(ValueError, match=r"tar\.gz: it is damaged"):
        dataset.load()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """What is written beyond it fails, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_stays_an_oserror_and_leaves_nothing(tmp_path, server):
    full = pytest.raises(OSError, match="File too large")
    with files_of_at_most(100_000), full as caught:
        download(remote(server, "absent", "good", "good"), tmp_path / "a")
    assert caught.value.filename.startswith(str(tmp_path / "a"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "code"), [("page", 2), ("good", 5)])
def test_the_command_ends_with_the_code_of_the_contract(
    tmp_path, server, monkeypatch, dltrain, kind, code
):
    name = "cifar-10-python.tar.gz"
    monkeypatch.setattr(CIFAR10, "files", (remote(server, kind, name=name),))
    root = tmp_path / "data"
    with files_of_at_most(100_000):
        outcome = dltrain(
            "train", "dataset=cifar10", f"dataset.root={root}", "dataset.download=true"
        )
    assert outcome.code == code, outcome.err
    assert outcome.out.startswith(name)  # the progress
    assert outcome.err.startswith("dltrain: error: ")
    said = outcome.err
    assert len(said.splitlines()) <= 6
    assert str(root) in said
    assert f"{SIZE:,} bytes" in said
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_while_it_is_unpacked_is_named_and_left_as_it_was(tmp_path):
    (tmp_path / NAME).write_bytes(GOOD)
    with files_of_at_most(10_000), pytest.raises(OSError, match="File too large") as caught:
        in_process("cifar10", tmp_path).load()
    assert caught.value.filename.startswith(str(tmp_path))
    assert f"{len(BATCH):,} bytes" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
