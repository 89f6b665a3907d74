"""Archives of CIFAR that cannot be read, or that were written to do harm."""

import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path

from data_files import images, python2_batch
from malformed_bytes import HTML, NO_FILES, Case, damaged_gzip, gzip_bomb, replaced, tar_bytes
from malformed_pickles import HOSTILE, LABELS

NAME, FOLDER = "cifar-10-python.tar.gz", "cifar-10-batches-py"
BINARY_NAME, BINARY_FOLDER = "cifar-10-binary.tar.gz", "cifar-10-batches-bin"
FILES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
BATCH = python2_batch(images(20, 3, 32).reshape(20, 3072), LABELS)
MEMBERS = [(f"{FOLDER}/{name}", BATCH) for name in FILES]
GB = 1 << 30


def _info(name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, to: str = "", **pax: str):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.pax_headers = kind, size, to, pax
    return info


def _blocks(*parts: tarfile.TarInfo | bytes) -> bytes:
    """An archive from headers and data of any kind, whether they belong together or not."""
    raw = b""
    for part in parts:
        block = part.tobuf(tarfile.GNU_FORMAT) if isinstance(part, tarfile.TarInfo) else part
        raw += block + bytes(-len(block) % 512)
    return raw + bytes(1024)


def _with_size(info: tarfile.TarInfo, size: bytes) -> bytes:
    """The header with other bytes for its size, and the checksum of that."""
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _sparse(fields: bytes) -> bytes:
    """A file with holes as GNU tar's version 1.0 tells them, in front of its data."""
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(10 * GB)}
    pax["GNU.sparse.name"] = f"{FOLDER}/data_batch_1"
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(_info("x", size=len(fields), **pax), io.BytesIO(fields))
        for name, content in MEMBERS[1:]:
            archive.addfile(_info(name, size=len(content)), io.BytesIO(content))
    return file.getvalue()


def _old_sparse() -> bytes:
    header = bytearray(_info(f"{FOLDER}/data_batch_1", tarfile.GNUTYPE_SPARSE).tobuf())
    header[483:495] = b"%011o\0" % (8 * GB - 1)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return gzip.compress(_blocks(bytes(header)), 1)


def _flipped_header() -> bytes:
    raw = bytearray(tar_bytes(*MEMBERS, mode="w:"))
    raw[raw.index(b"data_batch_3")] ^= 1
    return gzip.compress(bytes(raw), 1)


GOOD = tar_bytes(*MEMBERS)
RAW = gzip.decompress(GOOD)
OTHERS = MEMBERS[1:]
BATCH_1 = f"{FOLDER}/data_batch_1"
LACKS = "lacks data_batch_1;"
BOMB = "unpacks to more than 268,435,456 bytes"

ARCHIVES: dict[str, tuple[bytes, str]] = {
    "absolute names": (tar_bytes(*((f"/{n}", c) for n, c in MEMBERS)), "has no files of"),
    "names that go up": (tar_bytes(*((f"../root/{n}", c) for n, c in MEMBERS)), "has no files"),
    "a name that goes up": (tar_bytes((f"{FOLDER}/../was_run", b"!"), *OTHERS), LACKS),
    "a symlink for a batch": (
        tar_bytes(_info(BATCH_1, tarfile.SYMTYPE, to="/etc/passwd"), *OTHERS),
        LACKS,
    ),
    "a symlink to a sibling": (
        tar_bytes(_info(BATCH_1, tarfile.SYMTYPE, to="data_batch_2"), *OTHERS),
        LACKS,
    ),
    "a hard link for a batch": (
        tar_bytes(*OTHERS, _info(BATCH_1, tarfile.LNKTYPE, to=f"{FOLDER}/data_batch_2")),
        LACKS,
    ),
    "a hard link outside": (
        tar_bytes(_info(BATCH_1, tarfile.LNKTYPE, to="/etc/passwd"), *OTHERS),
        LACKS,
    ),
    "a device for a batch": (tar_bytes(_info(BATCH_1, tarfile.CHRTYPE), *OTHERS), LACKS),
    "a pipe for a batch": (tar_bytes(_info(BATCH_1, tarfile.FIFOTYPE), *OTHERS), LACKS),
    "a folder for a batch": (tar_bytes(_info(BATCH_1, tarfile.DIRTYPE), *OTHERS), LACKS),
    "a link for the folder": (tar_bytes(_info(FOLDER, tarfile.SYMTYPE, to="..")), "has no files"),
    "a batch twice": (tar_bytes(*MEMBERS, MEMBERS[2]), "it has data_batch_3 twice"),
    "four of five batches": (tar_bytes(*MEMBERS[:3], *MEMBERS[4:]), "lacks data_batch_4;"),
    "an empty batch": (tar_bytes((BATCH_1, b""), *OTHERS), "data_batch_1.*The file is empty"),
    "a web page for a batch": (tar_bytes((BATCH_1, HTML), *OTHERS), "data_batch_1.*web page"),
    "a hostile batch": (tar_bytes((BATCH_1, HOSTILE["os.system"][0]), *OTHERS), "may run code"),
    "another folder": (tar_bytes(*((f"x/{n}", c) for n, c in MEMBERS)), "has no files of"),
    "no member": (tar_bytes(), "has no files of"),
    "a member of 10 GB": (
        gzip_bomb(_with_size(_info("x"), b"\x80" + (10 * GB).to_bytes(11, "big")), 10 * GB),
        BOMB,
    ),
    "a batch of 10 GB": (
        gzip_bomb(_with_size(_info(BATCH_1), b"\x80" + (10 * GB).to_bytes(11, "big")), 10 * GB),
        BOMB,
    ),
    "10 GB behind its end": (gzip_bomb(RAW, 10 * GB), BOMB),
    "10 GB of nothing": (gzip_bomb(b"", 10 * GB), BOMB),
    "a size below zero": (
        gzip.compress(_blocks(_with_size(_info("x"), b"\xff" * 11 + b"\0"))),
        "is damaged .*(back|seek|negative|size)|has no files of",
    ),
    "a size that is no number": (
        gzip.compress(_blocks(_with_size(_info(BATCH_1), b"twelve bytes"))),
        "is damaged|no files of",
    ),
    "a name of 100 MB": (
        gzip_bomb(_info("x", tarfile.GNUTYPE_LONGNAME, size=100 << 20).tobuf(), 200 << 20),
        "headers of more than 262,144 bytes",
    ),
    "a header of 100 MB": (
        gzip_bomb(_info("x", tarfile.XHDTYPE, size=100 << 20).tobuf(), 200 << 20),
        "headers of more than 262,144 bytes",
    ),
    "a table of holes without end": (
        _sparse(b"99999999\n" + b"0\n" * (1 << 20)),
        "headers of more",
    ),
    "a file with holes": (
        _sparse(b"1\n0\n10\n".ljust(512, b"\0") + bytes(512)),
        "is a sparse file",
    ),
    "a table of holes that is text": (_sparse(b"many\n".ljust(512, b"x")), "is damaged"),
    "a sparse file of 8 GB": (_old_sparse(), "is a sparse file|lacks|damaged|no files"),
    "100,000 members": (
        gzip.compress(_info("x").tobuf() * 100_000, 1),
        "more than 100 members",
    ),
    "cut inside a batch": (gzip.compress(RAW[:100_000], 1), "is damaged|lacks"),
    "cut inside a header": (
        gzip.compress(RAW[: 512 + len(BATCH) // 512 * 512 + 700], 1),
        "expected|lacks",
    ),
    "cut behind a batch": (gzip.compress(RAW[: 512 - (-len(BATCH) // 512) * 512], 1), "lacks"),
    "a flipped bit in a header": (_flipped_header(), "is damaged|lacks"),
    "bzip2": (bz2.compress(RAW), "is damaged.*bzip2"),
    "xz": (lzma.compress(RAW), "is damaged.*compressed with xz"),
    "a tar that is not compressed": (RAW, "is damaged"),
    "gzip in gzip": (gzip.compress(GOOD), "is damaged|no files of"),
    "a batch that is not in a tar": (gzip.compress(BATCH, 1), "is damaged|no files of"),
}


def _alone(name: str, content: bytes):
    def make(root: Path) -> None:
        root.mkdir()
        (root / name).write_bytes(content)

    return make


def _put(name: str, put):
    def make(root: Path) -> None:
        root.mkdir()
        put(root / name)

    return make


def _cases() -> dict[str, Case]:
    contents = ARCHIVES | {k: (v, "is damaged") for k, v in damaged_gzip(GOOD).items()}
    contents |= {k: (v, "damaged|no files") for k, v in replaced(RAW).items() if k != "tar"}
    cases = {k: Case("cifar10", _alone(NAME, c), m, NAME) for k, (c, m) in contents.items()}
    for kind, (put, message) in NO_FILES.items():
        cases[f"{kind} for it"] = Case("cifar10", _put(NAME, put), message, NAME)
    binary = [(f"{BINARY_FOLDER}/{name}.bin", bytes(3073)) for name in FILES]
    half = tar_bytes(*binary[:-1], (binary[-1][0], bytes(3072)))
    cases["half a record"] = Case("cifar10", _alone(BINARY_NAME, half), "3,072 bytes", BINARY_NAME)
    train = tar_bytes(("cifar-100-python/train", BATCH))
    name100 = "cifar-100-python.tar.gz"
    cases["CIFAR-100 without test"] = Case(
        "cifar100", _alone(name100, train), "lacks test", name100
    )
    return cases


CASES = _cases()
