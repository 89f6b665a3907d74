"""Pickles that are no batch of CIFAR, many of them written to do harm."""

import os
import pickle
import struct
from collections.abc import Callable

import numpy as np
from data_files import images, python2_batch

PIXELS = images(20, 3, 32).reshape(20, 3072)
LABELS = [number % 10 for number in range(20)]
GOOD = python2_batch(PIXELS, LABELS)
MARK = "touch was_run"


class Call:
    """Pickled, it asks whoever loads it for a call."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Slots:
    def __init__(self) -> None:
        self.name = "was_run"


def _batch(*, protocol: int = 2, **changes: object) -> bytes:
    """A batch as Python 3 would write it, with changes; None takes a key away."""
    content = {"data": PIXELS, "labels": LABELS} | changes
    return pickle.dumps({k: v for k, v in content.items() if v is not None}, protocol)


def _built(shape: bytes, dtype: bytes = b"U\x02u1K\x00K\x01\x87R", raw: bytes = b"U\x01a") -> bytes:
    """An array as `ndarray.__reduce__` tells it, with opcodes of our choice for its parts."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    state = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    begin = b"\x80\x02}U\x04data" + array + b"(K\x01" + shape
    return begin + b"cnumpy\ndtype\n" + dtype + state + b"\x89" + raw + b"tbs."


HUGE = b"J\xff\xff\xff\x7f"
DOUBLED = b")" + b"q\x00h\x00\x86" * 100  # 2**100 of what it is made of, printed
DEEP = b")" + b"\x85" * 100_000
REFERS = "refers to `"

# name: (content, what is said of it)
HOSTILE: dict[str, tuple[bytes, str]] = {
    "os.system": (_batch(data=Call(os.system, MARK)), f"{REFERS}posix.system`, which may run"),
    "os.system in protocol 4": (_batch(protocol=4, data=Call(os.system, MARK)), f"{REFERS}posix"),
    "os.system in protocol 0": (_batch(protocol=0, data=Call(os.system, MARK)), "opcode"),
    "os.system beside the data": (_batch(more=Call(os.system, MARK)), f"{REFERS}posix.system`"),
    "eval": (_batch(data=Call(eval, f"__import__('os').system({MARK!r})")), f"{REFERS}.*eval`"),
    "exec": (_batch(labels=Call(exec, "open('was_run', 'w')")), f"{REFERS}.*exec`"),
    "import": (_batch(data=Call(__import__, "antigravity")), f"{REFERS}.*__import__`"),
    "getattr": (_batch(data=Call(getattr, "a", "upper")), f"{REFERS}.*getattr`"),
    "open for writing": (_batch(data=Call(open, "was_run", "w")), f"{REFERS}.*open`"),
    "numpy.load": (_batch(data=Call(np.load, "x.npy", None, True)), f"{REFERS}numpy"),
    "numpy.fromfile": (_batch(data=Call(np.fromfile, "/dev/zero")), f"{REFERS}numpy"),
    "object array": (_batch(data=np.array([Call(os.system, MARK)], object)), "array of type `O"),
    "array of objects": (_batch(data=np.array([[], {}], object)), "array of type `O"),
    "record array": (_batch(data=np.zeros(20, "u1,u1")), "array of type `V"),
    "instance": (_batch(data=Slots()), f"{REFERS}malformed_pickles.Slots`"),
    "INST": (b"(S'touch was_run'\nios\nsystem\n.", "the opcode b'S'"),
    "OBJ": (b"\x80\x02(cos\nsystem\nU\x0dtouch was_runo.", REFERS),
    "NEWOBJ": (b"\x80\x02cnumpy\nndarray\n)\x81.", r"the opcode b'\\x81'"),
    "NEWOBJ_EX": (b"\x80\x04cnumpy\nndarray\n)}\x92.", r"the opcode b'\\x92'"),
    "extension code": (b"\x80\x02\x82\x01.", r"the opcode b'\\x82'"),
    "persistent id": (b"\x80\x02Pabc\n.", "the opcode b'P'"),
    "persistent id from the stack": (b"\x80\x02U\x03abcQ.", "the opcode b'Q'"),
    "long of 4 GB": (b"\x80\x02\x8b\xff\xff\xff\x7f.", r"the opcode b'\\x8b'"),
    "bytes of 2^63": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 63) + b".", "not an intact"),
    "text of 4 GB": (b"\x80\x02X\xff\xff\xff\xff.", "not an intact pickle"),
    "bytearray of 1 TB": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".", "opcode"),
    "frame of 2^63": (b"\x80\x04\x95" + struct.pack("<Q", 1 << 63) + b"}.", "no array of bytes"),
    "negative length": (b"\x80\x02T\xff\xff\xff\xff.", "not an intact pickle"),
    "huge shape": (_built(HUGE * 3 + b"\x87"), "not an intact pickle"),
    "shape beyond 64 bits": (_built(b"\x8a\x0a" + b"\xff" * 9 + b"\x00\x85"), "not an intact"),
    "shape of nothing and much": (_built(b"K\x00\x8a\x0a" + b"\xff" * 9 + b"\0\x86"), "intact"),
    "shape of 99 sizes": (_built(b"(" + b"K\x01" * 99 + b"t"), "not an intact pickle"),
    "shape that is doubled": (_built(DOUBLED), "not an intact pickle"),
    "no shape": (_built(b"N"), r"shape \[1\]; expected"),
    "type that is doubled": (_built(b"K\x01\x85", DOUBLED + b"K\x00K\x01\x87R"), "not an intact"),
    "type that is deep": (_built(b"K\x01\x85", DEEP + b"K\x00K\x01\x87R"), "not an intact"),
    "type of a name": (_built(b"K\x01\x85", b"U\x09\x1b]0;x\x07u1\nK\x00K\x01\x87R"), "type `.*`"),
    "raw that is a number": (_built(b"K\x01\x85", raw=b"K\x01"), "not an intact pickle"),
    "name that is doubled": (b"\x80\x04}" + DOUBLED + b"\x8c\x01a\x93.", "not an intact pickle"),
    "name with escapes": (b"\x80\x02c\x1b]0;evil\x07\n\x1b[2J\n.", r"`\?\]0;evil\?\.\?\[2J`"),
    "name of a megabyte": (b"\x80\x02c" + b"a" * (1 << 20) + b"\nb\n.", "not an intact pickle"),
    "key that is doubled": (b"\x80\x02}" + DOUBLED + b"Ns.", "keys are not text or numbers"),
    "key that is deep": (b"\x80\x02}" + DEEP + b"Ns.", "keys are not text or numbers"),
    "deep lists": (b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", "holds a list"),
    "a million lists": (b"\x80\x02" + b"]" * 1_100_000, "more than 1,000,000 opcodes"),
    "memo bomb": (b"\x80\x02]q\x00" + b"(" + b"h\x00" * 100_000 + b"e.", "holds a list"),
    "list in itself": (b"\x80\x02}U\x04data]q\x00h\x00as.", "no array of bytes named `data`"),
    "hundred escapes for keys": (_batch(data=None, **{"\x1b[2J\n" * 100: 1}), r"it has \?\[2J\?"),
}

WRONG: dict[str, tuple[bytes, str]] = {
    "protocol 0": (_batch(protocol=0), "opcode"),
    "protocol 1": (_batch(protocol=1), "opcode"),
    "text for data": (_batch(data="0" * 99), "no array of bytes named `data`"),
    "bytes for data": (_batch(data=PIXELS.tobytes()), "no array of bytes named `data`"),
    "lists for data": (_batch(data=PIXELS[:2].tolist()), "no array of bytes named `data`"),
    "floats for data": (_batch(data=PIXELS.astype("f4")), "no array of bytes named `data`"),
    "images of 28x28": (_batch(data=PIXELS[:, :784]), r"shape \[20, 784\]; expected \[N, 3072\]"),
    "four dimensions": (_batch(data=PIXELS.reshape(20, 3, 32, 32)), r"shape \[20, 3, 32, 32\]"),
    "no dimension": (_batch(data=np.array(1, "u1")), r"shape \[\]; expected"),
    "other keys": (_batch(data=None, images=PIXELS), "it has images, labels"),
    "no labels": (_batch(labels=None), "no list of whole numbers named `labels`"),
    "fine labels": (_batch(labels=None, fine_labels=LABELS), "no list .* named `labels`"),
    "labels as text": (_batch(labels="0123456789" * 2), "no list of whole numbers"),
    "labels as array": (_batch(labels=np.array(LABELS)), "no list of whole numbers"),
    "labels as floats": (_batch(labels=[1.0] * 20), "no list of whole numbers"),
    "labels as truth values": (_batch(labels=[True] * 20), "no list of whole numbers"),
    "labels with a gap": (_batch(labels=[None, *LABELS[1:]]), "no list of whole numbers"),
    "19 labels": (_batch(labels=LABELS[1:]), "20 images and 19 labels"),
    "21 labels": (_batch(labels=[*LABELS, 1]), "20 images and 21 labels"),
    "label 10": (_batch(labels=[10] * 20), "labels from 10 to 10, but .* from 0 to 9"),
    "label -1": (_batch(labels=[-1] * 20), "labels from -1 to -1"),
    "label 2^70": (_batch(labels=[2**70] * 20), "beyond 64 bits; expected 0 to 9"),
    "no samples": (_batch(data=PIXELS[:0], labels=[]), "no sample"),
    "a list": (pickle.dumps([PIXELS, LABELS], 2), "it holds a list; expected a dictionary"),
    "an array": (pickle.dumps(PIXELS, 2), "expected a dictionary"),
    "a shorter batch": (
        _batch(data=PIXELS[:9], labels=LABELS[:9]),
        "has 9 samples; expected 20, as its",
    ),
}
