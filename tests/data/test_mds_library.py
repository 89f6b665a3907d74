"""Shards that mosaicml-streaming itself has written, and its downloaders: with the extra alone."""

import importlib.util
import io
import subprocess
import sys

import numpy as np
import pytest
from mds_files import jpeg
from PIL import Image

from dltrain.data.shard_table import read_local_index, write_table
from dltrain.data.shards import Shards

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("streaming") is None,
        reason="mosaicml-streaming is not installed: pip install 'dltrain[streaming]'",
    ),
]

# In a process of its own: it imports half of the world, and warns of it
WRITE = """
import sys, io
from PIL import Image
from streaming import MDSWriter
encoding, folder, *names = sys.argv[1:]
columns = {"image": encoding, "label": "int"}
with MDSWriter(out=folder, columns=columns, hashes=["sha256", "xxh64"], size_limit=4000) as out:
    for label, name in enumerate(names):
        data = open(name, "rb").read()
        image = data if encoding == "bytes" else Image.open(io.BytesIO(data))
        out.write({"image": image, "label": label})
"""
FETCH = """
import sys
from pathlib import Path
from dltrain.data.remotes import Remote, scheme_of
import streaming.base.storage.download as download
class Folder(download.LocalDownloader):  # a bucket on this machine
    def _validate_remote_path(self, remote): pass
    def _download_file_impl(self, remote, local, timeout):
        super()._download_file_impl(remote.removeprefix("s3:/"), local, timeout)
download.DOWNLOADER_MAPPINGS["s3"] = Folder
Remote("s3:/" + sys.argv[1], limit=10**9).fetch("index.json", Path(sys.argv[2]))
"""


def run(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("encoding", ["bytes", "jpeg", "png"])
def test_what_the_library_writes_is_read(tmp_path, encoding):
    written = [jpeg(i, height=20 + i, width=30) for i in range(20)]
    for number, data in enumerate(written):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    folder = tmp_path / "train"
    run(WRITE, encoding, folder, *(tmp_path / f"{i}.jpg" for i in range(20)))
    index = read_local_index(folder)
    assert (len(index.shards) > 1) == (encoding != "png")  # which are small
    assert all(shard.checksum.startswith("sha256:") for shard in index.shards)
    shards = Shards(index, lambda shard: folder / shard.name)
    column = index.column("image", "dataset.image_column")
    for number, data in enumerate(written):
        found = shards.read(number, column)
        if encoding == "bytes":
            assert found == data
        else:
            pixels = [np.asarray(Image.open(io.BytesIO(each)), np.int64) for each in (found, data)]
            assert abs(pixels[0] - pixels[1]).max() <= 2
    table = np.load(write_table(folder, image="image", label="label"))
    assert table.tolist() == [[i, 20 + i, 30] for i in range(20)]


def test_a_bucket_is_read_by_the_librarys_downloader(tmp_path):
    (tmp_path / "index.json").write_text("content")
    run(FETCH, tmp_path, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_text() == "content"
