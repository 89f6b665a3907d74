"""The framing of event files is what TensorBoard reads, and a file can be cut anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c as reference_crc

from dltrain.loggers.events import (
    EventFile,
    _masked_crc,
    crc32c,
    event_files,
    frame,
    new_event_path,
    read_records,
    truncate,
)


def read_with_tensorboard(path):
    reader, records = PyRecordReader_New(str(path)), []
    while True:
        try:
            reader.GetNext()
        except Exception:  # its own end of file is an exception of the TensorFlow stub
            return records
        records.append(reader.record())


def test_crc32c_gives_the_check_values_of_rfc_3720():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@given(st.binary(max_size=70))
def test_masked_crc_is_tensorboards(data):
    assert int.from_bytes(_masked_crc(data), "little") == reference_crc(data)


@pytest.mark.parametrize("num_bytes", [2047, 2048, 2049, 2303, 2304, 4095, 50_001])
def test_masked_crc_of_long_data_is_tensorboards(num_bytes):
    data = bytes(n * n * 7 >> 3 & 255 for n in range(num_bytes))
    assert int.from_bytes(_masked_crc(data), "little") == reference_crc(data)


def test_tensorboard_reads_the_records_back(tmp_path):
    records = [b"", b"a", bytes(range(256)) * 40]
    file = EventFile(tmp_path / "events.out.tfevents.1")
    for record in records:
        file.write(record)
    file.close()
    assert read_with_tensorboard(file.path) == records
    assert file.num_bytes == file.path.stat().st_size


def test_every_torn_file_gives_its_whole_records(tmp_path):
    path = tmp_path / "torn"
    framed = [frame(b"first"), frame(b"second")]
    whole = b"".join(framed)
    for num_bytes in range(len(whole) + 1):
        path.write_bytes(whole[:num_bytes])
        expected = (num_bytes >= len(framed[0])) + (num_bytes == len(whole))
        assert [data for _, data in read_records(path)] == [b"first", b"second"][:expected]


@pytest.mark.parametrize("position", [0, 9, 13, -1])
def test_a_flipped_bit_ends_the_reading(tmp_path, position):
    damaged = bytearray(frame(b"second"))
    damaged[position] ^= 1
    path = tmp_path / "damaged"
    path.write_bytes(frame(b"first") + damaged + frame(b"third"))
    assert list(read_records(path)) == [(0, b"first")]


def test_a_claimed_length_of_terabytes_is_not_read(tmp_path):
    path = tmp_path / "hostile"
    length = (1 << 62).to_bytes(8, "little")
    path.write_bytes(length + _masked_crc(length) + b"x" * 100)
    assert list(read_records(path)) == []


def test_names_sort_in_the_order_of_their_making_even_when_the_clock_goes_back(tmp_path):
    for now in (1000.2, 1000.9, 500.0, 3000.0):
        EventFile(new_event_path(tmp_path, event_files(tmp_path), now)).close()
    stamps = [int(path.name.split(".")[3]) for path in event_files(tmp_path)]
    assert stamps == [1000, 1001, 1002, 3000]


def test_an_existing_file_is_never_written_over(tmp_path):
    EventFile(tmp_path / "events.out.tfevents.1").close()
    with pytest.raises(FileExistsError):
        EventFile(tmp_path / "events.out.tfevents.1")


def test_truncate_never_lengthens(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    truncate(path, 9)
    truncate(path, -1)
    assert path.read_bytes() == b"12345"
    truncate(path, 2)
    assert path.read_bytes() == b"12"
