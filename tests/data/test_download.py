"""Downloads from a server on this machine: checked, from the next mirror, nothing left behind."""

import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from data_files import MNIST_NAMES, write_cifar10, write_mnist, write_tar

from dltrain.data.cifar10 import CIFAR10
from dltrain.data.download import Remote, download
from dltrain.data.mnist import MNIST

CONTENT = bytes(range(256)) * 4000


class Handler(BaseHTTPRequestHandler):
    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path)
        kind, _, name = self.path[1:].partition("/")
        if kind == "absent" or name not in self.files:
            return self.send_error(404)
        content = self.files[name]
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", f"/good/{name}")
            return self.end_headers()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if kind == "wrong":
            content = content[::-1]
        if kind == "longer":
            content += b"more"
        self.wfile.write(content[: len(content) // 2] if kind == "truncated" else content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    Handler.files, Handler.asked = {"file": CONTENT}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def remote(server: str, *kinds: str, name: str = "file", algorithm: str = "md5") -> Remote:
    content = Handler.files[name]
    checksum = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
    return Remote(name, tuple(f"{server}/{kind}/{name}" for kind in kinds), len(content), checksum)


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
@pytest.mark.parametrize("kind", ["good", "moved"])
def test_a_good_file_arrives(tmp_path, server, kind, algorithm):
    calls = []
    path = download(
        remote(server, kind, algorithm=algorithm),
        tmp_path / "new" / "folder",
        progress=lambda *call: calls.append(call),
    )
    assert path == tmp_path / "new" / "folder" / "file"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert calls[0] == ("file", 0, len(CONTENT))  # before a slow mirror has answered
    assert calls[-1] == ("file", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("wrong", "its md5 is .*, expected "),
        ("truncated", "512,000 of the expected 1,024,000 bytes came"),
        ("absent", "404"),
    ],
)
def test_a_bad_mirror_is_named_and_leaves_nothing(tmp_path, server, kind, message):
    with pytest.raises(FileNotFoundError, match=message) as caught:
        download(remote(server, kind), tmp_path)
    assert f"{server}/{kind}/file" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_more_than_was_published_is_not_taken(tmp_path, server):
    short = remote(server, "good")._replace(size=1000)
    with pytest.raises(FileNotFoundError, match="more than the expected 1,000 bytes"):
        download(short, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_next_mirror_is_tried(tmp_path, server):
    kinds = ("absent", "wrong", "truncated", "good", "absent")
    assert download(remote(server, *kinds), tmp_path).read_bytes() == CONTENT
    assert [path.split("/")[1] for path in Handler.asked] == list(kinds[:4])


def test_every_failure_is_named(tmp_path, server):
    with pytest.raises(FileNotFoundError) as caught:
        download(remote(server, "absent", "wrong"), tmp_path)
    assert str(caught.value).count(server) == 2


def test_only_http_is_followed(tmp_path, server):
    (tmp_path / "secret").write_bytes(CONTENT)
    local = remote(server, "good")._replace(urls=(f"file://{tmp_path}/secret",))
    with pytest.raises(FileNotFoundError, match="not an http address"):
        download(local, tmp_path / "to")


def test_a_server_that_is_not_there_is_named(tmp_path, server):
    nowhere = remote(server, "good")._replace(urls=("http://127.0.0.1:1/file",))
    with pytest.raises(FileNotFoundError, match=r"127\.0\.0\.1:1/file: .*refused"):
        download(nowhere, tmp_path)


def test_an_interruption_leaves_nothing_and_is_not_swallowed(tmp_path, server):
    def interrupt(name, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(remote(server, "good"), tmp_path, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_old_file(tmp_path, server):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        download(remote(server, "truncated"), tmp_path)
    assert (tmp_path / "file").read_bytes() == b"old"


def test_mnist_is_fetched_once_and_unpacked(tmp_path, server, monkeypatch):
    write_mnist(tmp_path / "published", gz=True)
    names = [f"{name}.gz" for name in MNIST_NAMES]
    Handler.files = {name: (tmp_path / "published" / name).read_bytes() for name in names}
    monkeypatch.setattr(MNIST, "files", tuple(remote(server, "good", name=name) for name in names))
    facts = {"num_classes": 10, "image_shape": [1, 28, 28], "mean": [0.1], "std": [0.3]}
    root = tmp_path / "data"
    dataset = MNIST(root=str(root), download=True, num_val=5, split_seed=0, **facts)
    calls = []
    splits = dataset.load(lambda name, done, total: calls.append(name))
    assert [len(split.targets) for split in splits.values()] == [35, 5, 20]
    assert list(dict.fromkeys(calls)) == names
    assert sorted(p.name for p in (root / "MNIST/raw").iterdir()) == sorted(MNIST_NAMES)
    raw = (root / "MNIST/raw" / MNIST_NAMES[0]).read_bytes()
    assert raw == gzip.decompress(Handler.files[names[0]])
    (root / "MNIST/raw" / MNIST_NAMES[1]).unlink()
    dataset.load()
    assert len(Handler.asked) == 5  # only the missing one again


def test_cifar10_is_fetched_and_extracted(tmp_path, server, monkeypatch):
    write_cifar10(tmp_path / "made", layout="python2")
    members = {
        f"cifar-10-batches-py/{p.name}": p.read_bytes() for p in (tmp_path / "made").iterdir()
    }
    write_tar(tmp_path / "made.tar.gz", members)
    name = "cifar-10-python.tar.gz"
    Handler.files = {name: (tmp_path / "made.tar.gz").read_bytes()}
    monkeypatch.setattr(CIFAR10, "files", (remote(server, "good", name=name),))
    facts = {"num_classes": 10, "image_shape": [3, 32, 32], "mean": [0.5], "std": [0.25]}
    dataset = CIFAR10(root=str(tmp_path / "data"), download=True, num_val=5, split_seed=0, **facts)
    for _ in range(2):
        assert len(dataset.load()["train"].targets) == 95
    assert len(Handler.asked) == 1
