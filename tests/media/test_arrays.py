import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.arrays import MAX_MEMBERS, read_npy, read_npz, write_npy, write_npz
from media.errors import MalformedMediaError, MediaError, MediaTooLargeError, UnsupportedMediaError

LIMIT = 1 << 20
DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


def saved(array, **options):
    """Write with NumPy."""
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npy(header, data=b"", version=1):
    """Write an npy by hand."""
    text = header.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


def plain(descr="<f4", order="False", shape="(3,)", data=bytes(12)):
    return npy(f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n", data)


def zipped(members, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4), (2, 0, 3)])
def test_what_numpy_saves_is_read(dtype, order, shape):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(np.dtype(dtype).newbyteorder(order))
    found = read_npy(saved(array), max_bytes=LIMIT)

    assert np.array_equal(found, array)
    assert found.shape == shape
    assert found.dtype == np.dtype(dtype)
    assert found.dtype.isnative
    assert found.flags.aligned
    assert found.flags.c_contiguous


def test_fortran_order():
    array = np.asfortranarray(np.arange(24.0).reshape(2, 3, 4))
    data = saved(array)

    assert b"'fortran_order': True" in data
    assert np.array_equal(read_npy(data, max_bytes=LIMIT), array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version(version):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.arange(6).reshape(2, 3), version=version)

    assert np.array_equal(read_npy(file.getvalue(), max_bytes=LIMIT), np.arange(6).reshape(2, 3))


def test_headers_as_other_programs_write_them():
    header = '{"shape":(3,),"fortran_order":False,"descr":"|u1"}'

    assert read_npy(npy(header, b"\1\2\3"), max_bytes=LIMIT).tolist() == [1, 2, 3]


def test_every_byte_makes_a_true_or_false():
    found = read_npy(plain("|b1", shape="(3,)", data=b"\0\1\x80"), max_bytes=LIMIT)

    assert (found == np.array([False, True, True])).all()


@pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3), np.float32(2.5), np.zeros((0, 2), bool)])
def test_numpy_reads_what_is_written(array):
    found = np.load(io.BytesIO(write_npy(np.asarray(array))), allow_pickle=False)

    assert np.array_equal(found, array)
    assert found.dtype == array.dtype


@pytest.mark.parametrize(
    "array",
    [
        np.array(["text"]),
        np.array([b"bytes"]),
        np.array([1j]),
        np.array([1], dtype=np.longdouble),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.zeros(2, dtype=[("a", "i4"), ("b", "f4")]),
    ],
)
def test_other_types_are_refused(array):
    with pytest.raises(UnsupportedMediaError, match="expected booleans, integers or floats"):
        read_npy(saved(array), max_bytes=LIMIT)


def test_objects_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    array = np.array([Trap()], dtype=object)
    for read, data in (
        (read_npy, saved(array, allow_pickle=True)),
        (read_npz, zipped([("a.npy", saved(array, allow_pickle=True))])),
    ):
        with pytest.raises(UnsupportedMediaError, match=r"'\|O'"):
            read(data, max_bytes=LIMIT)
    assert not tmp_path.joinpath("sprung").exists()


@pytest.mark.parametrize(
    "shape",
    ["(1000000000,)", "(99999, 99999, 99999)", "(0, 1000000000)", "(9223372036854775807, 2)", "(262145,)"],
)
def test_what_is_announced_is_compared_before_memory_is_taken(shape):
    tracemalloc.start()
    try:
        with pytest.raises(MediaTooLargeError, match="expected at most 1048576"):
            read_npy(plain(shape=shape), max_bytes=LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 1 << 19
    finally:
        tracemalloc.stop()


def test_the_limit_itself_is_allowed():
    data = saved(np.zeros(25, dtype=np.float32))

    assert read_npy(data, max_bytes=100).shape == (25,)
    with pytest.raises(MediaTooLargeError):
        read_npy(data, max_bytes=99)


@pytest.mark.parametrize("data", [bytes(11), bytes(13), b""])
def test_more_or_less_than_announced_is_refused(data):
    with pytest.raises(MalformedMediaError, match=f"announces 12 bytes .* holds {len(data)}"):
        read_npy(plain(data=data), max_bytes=LIMIT)


@pytest.mark.parametrize(
    "data",
    [
        plain(shape="(-1,)"),
        plain(shape="(3, , )"),
        plain(shape="(99999999999999999999,)"),
        plain(shape=f"({'1, ' * 33})"),
        plain(order="0"),
        plain(descr="<f4', 'more': '"),
        npy("{'descr': '<f4', 'shape': (3,)}", bytes(12)),
        npy("__import__('os').getpid()", bytes(12)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)} + 1", bytes(12)),
        npy("", bytes(12)),
        npy("(" * 5000, bytes(12)),
    ],
)
def test_broken_headers(data):
    with pytest.raises(MalformedMediaError, match="npy header"):
        read_npy(data, max_bytes=LIMIT)


def test_other_files():
    with pytest.raises(MalformedMediaError, match="does not begin as an npy"):
        read_npy(b"\x89PNG\r\n\x1a\n" + bytes(20), max_bytes=LIMIT)
    with pytest.raises(UnsupportedMediaError, match="format 4, expected 1, 2 or 3"):
        read_npy(npy("{}" * 6, version=4), max_bytes=LIMIT)
    with pytest.raises(UnsupportedMediaError, match="header has 70000 bytes"):
        read_npy(npy(" " * 70000, version=2), max_bytes=LIMIT)


def test_a_truncated_file_is_refused():
    for read, data in ((read_npy, saved(np.arange(5))), (read_npz, write_npz({"a": np.arange(5), "b": np.ones(3)}))):
        for length in range(len(data)):
            with pytest.raises(MediaError):
                read(data[:length], max_bytes=LIMIT)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_as_numpy_saves_it(save):
    arrays = {"codes_0": np.arange(6).reshape(2, 3), "z": np.linspace(0, 1, 4, dtype=np.float32)}
    file = io.BytesIO()
    save(file, **arrays)
    found = read_npz(file.getvalue(), max_bytes=LIMIT)

    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert np.array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_numpy_reads_the_npz_that_is_written():
    arrays = {"mean": np.ones((2, 3), dtype=np.float32), "codes": np.arange(4, dtype=np.int32)}
    data = write_npz(arrays)
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        assert found.files == list(arrays)
        for name, array in arrays.items():
            assert np.array_equal(found[name], array)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_equal_arrays_give_equal_bytes(monkeypatch):
    arrays = {"a": np.arange(5)}
    first = write_npz(arrays)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))

    assert write_npz(arrays) == first


def test_a_zip_bomb_is_refused():
    """A thousandfold bomb: what it unpacks to is in its directory."""
    data = zipped([("a.npy", saved(np.zeros(8 << 20, dtype=np.uint8)))])

    assert len(data) < 10_000
    with pytest.raises(MediaTooLargeError, match="unpacks to 8388736 bytes, expected at most 1048576"):
        read_npz(data, max_bytes=LIMIT)


def test_the_limit_counts_all_members_together():
    data = zipped([(f"{index}.npy", saved(np.zeros(400_000, dtype=np.uint8))) for index in range(3)])

    with pytest.raises(MediaTooLargeError, match="unpacks to 1200384 bytes"):
        read_npz(data, max_bytes=LIMIT)


@pytest.mark.parametrize("announced", [200, 10_000_000])
def test_a_zip_bomb_that_lies_is_unpacked_no_further_than_it_says(announced):
    data = bytearray(zipped([("a.npy", saved(np.zeros(8 << 20, dtype=np.uint8)))]))
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", announced)
    tracemalloc.start()
    try:
        with pytest.raises(MediaError):
            read_npz(bytes(data), max_bytes=LIMIT)
        assert tracemalloc.get_traced_memory()[1] < LIMIT
    finally:
        tracemalloc.stop()


def test_a_member_that_is_shorter_than_it_says():
    data = bytearray(zipped([("a.npy", saved(np.zeros(10)))], zipfile.ZIP_DEFLATED))
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", 1000)

    with pytest.raises(MalformedMediaError):
        read_npz(bytes(data), max_bytes=LIMIT)


def test_too_many_members():
    members = [(f"{index}.npy", saved(np.arange(1))) for index in range(MAX_MEMBERS + 1)]

    assert len(read_npz(zipped(members[:-1]), max_bytes=LIMIT)) == MAX_MEMBERS
    with pytest.raises(MediaTooLargeError, match="more than 64 members"):
        read_npz(zipped(members), max_bytes=LIMIT)


@pytest.mark.parametrize("name", ["a.txt", "../a.npy", "folder/a.npy", "a\\b.npy", "a"])
def test_members_that_are_no_plain_npy(name):
    with pytest.raises(UnsupportedMediaError, match="expected npy files alone"):
        read_npz(zipped([(name, saved(np.arange(3)))]), max_bytes=LIMIT)


def test_rare_packing_is_refused():
    with pytest.raises(UnsupportedMediaError, match="rare method"):
        read_npz(zipped([("a.npy", saved(np.arange(3)))], zipfile.ZIP_LZMA), max_bytes=LIMIT)


def test_encryption_is_refused():
    data = bytearray(zipped([("a.npy", saved(np.arange(3)))]))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1

    with pytest.raises(UnsupportedMediaError, match="encrypted"):
        read_npz(bytes(data), max_bytes=LIMIT)


def test_two_members_of_one_name():
    data = zipped([("a.npy", saved(np.arange(3))), ("b.npy", saved(np.arange(4)))])

    with pytest.raises(MalformedMediaError, match="two arrays of one name"):
        read_npz(data.replace(b"b.npy", b"a.npy"), max_bytes=LIMIT)


def test_a_damaged_member_fails_its_checksum():
    data = bytearray(zipped([("a.npy", saved(np.arange(3)))], zipfile.ZIP_STORED))
    data[data.index(b"\x93NUMPY") + 130] ^= 1

    with pytest.raises(MalformedMediaError, match="CRC"):
        read_npz(bytes(data), max_bytes=LIMIT)


CORPUS = [
    (read_npy, saved(np.arange(6, dtype=np.float32).reshape(2, 3))),
    (read_npy, saved(np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)))),
    (read_npz, write_npz({"a": np.arange(3), "b": np.ones(2)})),
    (read_npz, zipped([("a.npy", saved(np.arange(3))), ("b.npy", saved(np.ones(2)))])),
]


@settings(max_examples=500, deadline=None, database=None, derandomize=True)
@given(draw=st.data())
def test_mutated_files_give_arrays_or_a_clear_error(draw):
    read, original = draw.draw(st.sampled_from(CORPUS))
    data = bytearray(original)
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.integers(0, len(data) - 1))
        junk = draw.draw(st.one_of(st.binary(max_size=4), st.sampled_from([b"9", b"(", b"'", b"O", b"f8"])))
        data[place : place + draw.draw(st.integers(0, 4))] = junk
    try:
        found = read(bytes(data), max_bytes=LIMIT)
    except MediaError:
        pass
    else:
        arrays = found.values() if isinstance(found, dict) else [found]
        assert all(array.dtype.kind in "biuf" and array.nbytes <= LIMIT for array in arrays)
