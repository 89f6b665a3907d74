"""Pickles as data: what plain data needs is read, and nothing else is so much as looked up."""

import contextlib
import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from data_files import peak_memory
from hypothesis import given, settings
from hypothesis import strategies as st

from dltrain.data.pickles import read_pickle

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.sampled_from(["long " * 60, b"long " * 60]),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=5)
    ),
    max_leaves=10,
)


@settings(deadline=None, max_examples=100)
@given(
    content=st.dictionaries(st.text(max_size=9), PLAIN, max_size=5),
    protocol=st.sampled_from((2, 3, 4)),
)
def test_plain_data_is_what_pickle_makes_of_it(tmp_path_factory, content, protocol):
    path = tmp_path_factory.getbasetemp() / "plain"
    path.write_bytes(pickle.dumps(content, protocol))
    assert read_pickle(path) == content


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["u1", "i8", ">i4", "f4", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays(tmp_path, protocol, dtype, order):
    array = np.asarray(np.arange(24).reshape(2, 3, 4), dtype=dtype, order=order)
    (tmp_path / "a").write_bytes(pickle.dumps({"a": array, "b": array}, protocol))
    content = read_pickle(tmp_path / "a")
    for name in "ab":
        assert np.array_equal(content[name], array)
        assert content[name].dtype == array.dtype


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def _hostile(tmp_path: Path) -> dict[str, bytes]:
    mark = f"touch {tmp_path}/was_run"
    nested = b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"Ns."  # as a key: hash recurses
    doubled = b"\x80\x02})" + b"q\x00h\x00\x86" * 100 + b"Ns."  # as a key: 2**100 hashes
    return {
        "os.system": pickle.dumps({"data": Evil(os.system, mark)}, 2),
        "os.system, protocol 4": pickle.dumps({"data": Evil(os.system, mark)}, 4),
        "eval": pickle.dumps({"data": Evil(eval, f"__import__('os').system({mark!r})")}, 2),
        "object array": pickle.dumps({"data": np.array([Evil(os.system, mark)], object)}, 2),
        "numpy.load": pickle.dumps({"data": Evil(np.load, "x")}, 2),
        "inst": b"(S'" + mark.encode() + b"'\nios\nsystem\n.",
        "persistent id": b"\x80\x02Pabc\n.",
        "extension": b"\x80\x02\x82\x01.",
        "newobj": b"\x80\x02cnumpy\nndarray\n)\x81.",
        "huge string": b"\x80\x02X\xff\xff\xff\xff.",
        "huge bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
        "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",
        "negative length": b"\x80\x02T\xff\xff\xff\xff.",
        "deep key": nested,
        "doubling key": doubled,
        "endless encoding": b"\x80\x02}c_codecs\nencode\nq\x00X"
        + struct.pack("<I", 10**6)
        + b"a" * 10**6
        + b"q\x01"
        + b"h\x00h\x01X\x06\x00\x00\x00latin1\x86R" * 10_000
        + b".",
        "array larger than its bytes": pickle.dumps({"a": np.arange(4, dtype="u1")}, 2).replace(
            b"K\x04\x85", b"J\xff\xff\xff\x7f\x85"
        ),
        "calls a string": b"\x80\x02U\x01aN\x85R.",
        "list": pickle.dumps([1, 2], 2),
        "cut off": pickle.dumps({"a": list(range(100))}, 2)[:-20],
        "no stop": b"\x80\x02}",
        "stack underflow": b"\x80\x02t.",
        "text": b"label,pixel\n1,2\n",
        "empty": b"",
        "mark as value": b"\x80\x02(.",
        "unhashable key": b"\x80\x02}]Ns.",
        "odd items": b"\x80\x02}(K\x01u.",
        "appends to a tuple": b"\x80\x02)(K\x01e.",
    }


@pytest.mark.parametrize("name", _hostile(Path("nowhere")))
def test_nothing_hostile_runs_or_fills_memory(tmp_path, name):
    content = _hostile(tmp_path)[name]
    path = tmp_path / "file"
    path.write_bytes(content)
    refused = pytest.raises(ValueError, match=r"expected .* Remove it")
    with peak_memory(4 * len(content) + (8 << 20)), refused as caught:
        read_pickle(path)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "was_run").exists()


def test_a_huge_memo_index_takes_no_memory(tmp_path):
    """pickle.Unpickler allocates a table of that length."""
    (tmp_path / "file").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    with peak_memory(1 << 20):
        assert read_pickle(tmp_path / "file") == {}


def test_the_message_names_what_would_have_run(tmp_path):
    (tmp_path / "file").write_bytes(pickle.dumps({"data": Evil(os.system, "true")}, 2))
    with pytest.raises(ValueError, match=r"refers to `posix\.system`|refers to `nt\.system`"):
        read_pickle(tmp_path / "file")


def test_number_of_objects_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("dltrain.data.pickles._MAX_OPCODES", 1000)
    (tmp_path / "file").write_bytes(pickle.dumps({"a": [None] * 2000}, 2))
    with pytest.raises(ValueError, match="more than 1,000 opcodes"):
        read_pickle(tmp_path / "file")


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_damage_is_a_value_error(tmp_path_factory, data):
    buffer = io.BytesIO()
    pickle.dump(
        {b"data": np.arange(12, dtype="u1").reshape(3, 4), b"labels": [1, 2, 300]}, buffer, 2
    )
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    with contextlib.suppress(ValueError):  # any other error fails the test
        read_pickle(path)
