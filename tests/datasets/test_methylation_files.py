"""The NPZ and HDF5 contracts: rows on demand, few bytes read, and every way a file can be wrong."""

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from assay.datasets.card import DataError, MissingData
from assay.datasets.methylation import PAD, TISSUES, TOKENS
from assay.datasets.methylation_files import Hdf5Reads, NpzReads, NpzSample, average_states, measure_samples
from assay.datasets.methylation_lists import read_list
from assay.datasets.methylation_twin import ReadTwin

REGIONS = 6


@pytest.fixture
def arrays():
    reads = ReadTwin(rows=100, regions=REGIONS, classes=22).take(np.arange(3 * REGIONS))
    return {"dna_tokens": reads.tokens.reshape(3, REGIONS, TOKENS), "methylation": reads.states.reshape(3, REGIONS, TOKENS)}


def write_npz(folder, arrays, save=np.savez):
    for sample in range(3):
        extra = {"region_ids": np.array([f"r{i}" for i in range(REGIONS)]), "n_reads": np.ones(REGIONS, np.int32), "tissue_label": np.eye(119)[sample]}
        save(
            folder / f"s{sample}.npz",
            sample_name=f"s{sample}",
            tissue_name="t",
            dna_tokens=arrays["dna_tokens"][sample].astype(np.int32),
            methylation=arrays["methylation"][sample],
            **extra,
        )
    (folder / "train.csv").write_text("filename,tissue_index\ns0.npz,3\ns1.npz,0\ns2.npz,21\n")
    return folder / "train.csv"


def write_hdf5(path, arrays, **attributes):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        attributes = {"n_regions_per_file": REGIONS, "seq_length": TOKENS, "n_tissues": 22, "tissue_labels": [3, 0, 21], **attributes}
        file.attrs.update({name: value for name, value in attributes.items() if value is not None})
    return path


def open_both(tmp_path, arrays):
    return NpzReads(read_list(write_npz(tmp_path, arrays)), TISSUES), Hdf5Reads(write_hdf5(tmp_path / "train.h5", arrays), TISSUES)


def test_rows_come_in_the_order_asked_for_from_either_format(tmp_path, arrays):
    rows = np.array([17, 0, 5, 6, 17, 1])
    for source in open_both(tmp_path, arrays):
        assert len(source) == 18
        reads = source.take(rows)
        np.testing.assert_array_equal(reads.tokens, arrays["dna_tokens"].reshape(-1, TOKENS)[rows])
        np.testing.assert_array_equal(reads.states, arrays["methylation"].reshape(-1, TOKENS)[rows])
        assert reads.tokens.dtype == reads.states.dtype == np.uint8
        assert reads.label.tolist() == [21, 3, 3, 0, 21, 3]
        assert reads.region.tolist() == [5, 0, 5, 0, 5, 1]


def test_only_the_rows_asked_for_are_read_from_disk(tmp_path):
    regions = 200_000  # 150 MB of tokens and states
    path = tmp_path / "large.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in (("dna_tokens", 1), ("methylation", 2)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (regions, TOKENS)})
                for _ in range(0, regions, 10_000):
                    stream.write(bytes([value]) * (10_000 * TOKENS))
    sample = NpzSample(path)
    before = _resident()
    for row in range(0, regions, regions // 50):
        tokens, states = sample.take(np.array([row]))
        assert tokens[0, 0] == 1
        assert states[0, 0] == 2
    assert _resident() - before < 5e6


def _resident():
    # without the pages of the file itself, which belong to the system's cache and can be dropped at any time
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")).split()[1]) * 1024


def test_region_methylation_is_the_share_of_methylated_among_measured(tmp_path, arrays):
    assert average_states(np.array([[0, 1, 1, 2], [2, 2, 2, 2]])).tolist() == [pytest.approx(2 / 3), 0.0]
    for source in open_both(tmp_path, arrays):
        measured = measure_samples(source)
        assert measured.shape == (3, REGIONS)
        assert measured.dtype == np.float32
        np.testing.assert_array_equal(measured[1], average_states(arrays["methylation"][1]))


def spoil(tmp_path, arrays, name, change):
    arrays = dict(arrays)
    arrays[name] = change(arrays[name].copy())
    write_npz(tmp_path, arrays)
    return arrays


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("dna_tokens", lambda a: a[:, :, :149], r"dna_tokens has the shape \[6, 149\], expected \[regions, 150\]"),
        ("methylation", lambda a: a[:, :5], "dna_tokens has 6 regions but methylation 5"),
        ("methylation", lambda a: a.astype(float), "methylation holds float64 in row order, expected integers"),
        ("dna_tokens", lambda a: np.full_like(a, 69), "s0.npz, row 0: holds a token id outside the vocabulary"),
        ("dna_tokens", lambda a: np.full_like(a, PAD), "s0.npz, row 0: is all padding"),
        ("methylation", lambda a: np.full_like(a, 3), "a methylation state other than 0, 1 and 2"),
    ],
)
def test_an_npz_file_that_breaks_the_contract_is_refused(tmp_path, arrays, name, change, problem):
    spoil(tmp_path, arrays, name, change)
    with pytest.raises(DataError, match=problem):
        NpzReads(read_list(tmp_path / "train.csv"), TISSUES).take(np.arange(3))


def test_a_damaged_or_packed_npz_file_is_refused(tmp_path, arrays):
    write_npz(tmp_path, arrays)
    whole = (tmp_path / "s0.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut.npz: is no readable NPZ file"):
        NpzSample(tmp_path / "cut.npz")
    np.savez(tmp_path / "other.npz", tokens=np.zeros(3))
    with pytest.raises(DataError, match=r"has no array 'dna_tokens'; it has tokens.npy"):
        NpzSample(tmp_path / "other.npz")
    write_npz(tmp_path, arrays, np.savez_compressed)
    with pytest.raises(DataError, match=r"is compressed and cannot be mapped.*numpy.savez, not savez_compressed"):
        NpzSample(tmp_path / "s0.npz")
    with pytest.raises(MissingData, match=r"gone.npz: not found"):
        NpzSample(tmp_path / "gone.npz")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("file,tissue\na,1\n", "has the columns file, tissue"),
        ("filename,tissue_index\n", "lists no files"),
        ("filename,tissue_index\na.npz,blood\n", "row 2: names 'a.npz' with tissue_index 'blood'"),
    ],
)
def test_a_list_that_breaks_the_contract_is_refused(tmp_path, text, problem):
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(DataError, match=problem):
        read_list(tmp_path / "train.csv")


def test_a_list_in_another_encoding_is_named(tmp_path):
    (tmp_path / "train.csv").write_bytes(b"filename,tissue_index\nZ\xfcrich.npz,0\n")
    with pytest.raises(DataError, match=r"train\.csv: is damaged or no text: .*Save the list as UTF-8"):
        read_list(tmp_path / "train.csv")


def test_a_tissue_without_a_name_is_refused(tmp_path, arrays):
    with pytest.raises(DataError, match=r"s2.npz: is of tissue 21, of 2"):
        NpzReads(read_list(write_npz(tmp_path, arrays)), TISSUES[:2])


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"seq_length": 148}, "attribute seq_length is 148, the data have 150"),
        ({"seq_length": "long"}, "attribute seq_length is 'long', the data have 150"),
        ({"seq_length": [150, 150]}, r"attribute seq_length is \[150, 150\], the data have 150"),
        ({"seq_length": h5py.Empty("i4")}, "attribute seq_length is .*, the data have 150"),
        ({"n_regions_per_file": 7}, "attribute n_regions_per_file is 7, the data have 6"),
        ({"n_regions_per_file": 6.5}, "attribute n_regions_per_file is 6.5, the data have 6"),
        ({"n_tissues": 39}, "attribute n_tissues is 39, the contract has 22"),
        ({"n_tissues": None}, "attribute n_tissues is missing, the contract has 22"),
        ({"tissue_labels": [1, 2]}, "its parts do not fit together"),
        ({"tissue_labels": [1, 2, 22]}, "not whole numbers from 0 to 21"),
        ({"tissue_labels": ["a", "b", "c"]}, "not whole numbers from 0 to 21"),
        ({"tissue_labels": [1.0, 2.0, 3.0]}, "not whole numbers from 0 to 21"),
        ({"tissue_labels": 3}, "its parts do not fit together"),
        ({"tissue_labels": None}, "its parts do not fit together"),
        ({"sample_names": ["a", "b"]}, r"attribute sample_names is \['a', 'b'\], not the names of 3 samples"),
        ({"sample_names": [1, 2, 3]}, r"attribute sample_names is \[1, 2, 3\], not the names of 3 samples"),
    ],
)
def test_hdf5_attributes_must_fit_the_data(tmp_path, arrays, attributes, problem):
    with pytest.raises(DataError, match=problem):
        Hdf5Reads(write_hdf5(tmp_path / "a.h5", arrays, **attributes), TISSUES)


@pytest.mark.parametrize("shape", [(0, REGIONS), (3, 0)])
def test_an_hdf5_file_without_samples_or_regions_is_refused(tmp_path, shape):
    nothing = np.zeros((*shape, TOKENS), np.uint8)
    path = write_hdf5(tmp_path / "a.h5", {"dna_tokens": nothing, "methylation": nothing}, n_regions_per_file=shape[1], tissue_labels=np.zeros(shape[0], int))
    with pytest.raises(DataError, match=rf"a.h5: holds {shape[0]} samples of {shape[1]} regions: there is nothing to read"):
        Hdf5Reads(path, TISSUES)


def test_a_damaged_hdf5_file_is_refused(tmp_path, arrays):
    path = write_hdf5(tmp_path / "a.h5", arrays)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a.h5: is no readable HDF5 file"):
        Hdf5Reads(path, TISSUES)
    path = write_hdf5(tmp_path / "b.h5", {"dna_tokens": arrays["dna_tokens"]})
    with pytest.raises(DataError, match="has no data set 'methylation'; it has dna_tokens"):
        Hdf5Reads(path, TISSUES)
    path = write_hdf5(tmp_path / "c.h5", {**arrays, "methylation": arrays["methylation"][:, :, :10]})
    with pytest.raises(DataError, match=r"methylation holds uint8 \[3, 6, 10\]"):
        Hdf5Reads(path, TISSUES)
    with pytest.raises(DataError, match=r"b2.h5, sample 0, row 0: holds a token id outside the vocabulary"):
        Hdf5Reads(write_hdf5(tmp_path / "b2.h5", {**arrays, "dna_tokens": np.full_like(arrays["dna_tokens"], 99)}), TISSUES).take(np.array([0]))


def read_npz(path):
    NpzSample(path).take(np.array([0, 1]))


def read_hdf5(path):
    Hdf5Reads(path, TISSUES).take(np.arange(3))


@pytest.mark.parametrize(("name", "read"), [("s0.npz", read_npz), ("a.h5", read_hdf5)])
def test_whatever_byte_is_damaged_the_file_is_named_or_read(tmp_path, arrays, name, read):
    write_npz(tmp_path, arrays)
    write_hdf5(tmp_path / "a.h5", arrays)
    whole, path = (tmp_path / name).read_bytes(), tmp_path / name
    refusals = []
    for place in range(0, len(whole), len(whole) // 500 + 1):
        path.unlink()  # h5py and mmap may still hold the last one
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read(path)
        except DataError as error:
            refusals.append(str(error))
    assert len(refusals) > 10
    assert all(name in refusal for refusal in refusals)


class TestContentOutsideAnHdf5File:
    """The file's hash says what was read only where all of it is in the file."""

    @pytest.fixture
    def whole(self, tmp_path, arrays):
        return write_hdf5(tmp_path / "whole.h5", arrays)

    @staticmethod
    def write(path, arrays, put):
        """A file whose tokens are written by `put`."""
        write_hdf5(path, {"methylation": arrays["methylation"]})
        with h5py.File(path, "a") as file:
            put(file)
        return path

    def link(self, file):
        file["dna_tokens"] = h5py.ExternalLink("whole.h5", "/dna_tokens")

    def link_to_a_file_that_is_gone(self, file):
        file["dna_tokens"] = h5py.ExternalLink("gone.h5", "/dna_tokens")

    def link_on_the_way(self, file):
        file["elsewhere"] = h5py.ExternalLink("whole.h5", "/")
        file["dna_tokens"] = h5py.SoftLink("/elsewhere/dna_tokens")

    def assemble(self, file):
        layout = h5py.VirtualLayout((3, REGIONS, TOKENS), dtype="u1")
        layout[:] = h5py.VirtualSource("whole.h5", "dna_tokens", (3, REGIONS, TOKENS))
        file.create_virtual_dataset("dna_tokens", layout)

    def store_raw(self, file):
        file.create_dataset("dna_tokens", (3, REGIONS, TOKENS), "u1", external="tokens.raw")

    @pytest.mark.parametrize(
        ("put", "how"),
        [
            ("link", "an external link"),
            ("link_to_a_file_that_is_gone", "an external link"),
            ("link_on_the_way", "an external link"),
            ("assemble", "a virtual data set"),
            ("store_raw", "raw external storage"),
        ],
    )
    def test_is_refused(self, tmp_path, arrays, whole, put, how):
        path = self.write(tmp_path / "train.h5", arrays, getattr(self, put))
        with pytest.raises(DataError, match=f"train.h5: dna_tokens is {how}: its content lies outside the file, whose hash does not cover it. Copy it into"):
            Hdf5Reads(path, TISSUES)

    def test_a_soft_link_inside_the_file_is_fine(self, tmp_path, arrays):
        def put(file):
            file["real/tokens"] = arrays["dna_tokens"]
            file["dna_tokens"] = h5py.SoftLink("/real/tokens")

        reads = Hdf5Reads(self.write(tmp_path / "train.h5", arrays, put), TISSUES)
        np.testing.assert_array_equal(reads.take(np.arange(18)).tokens, arrays["dna_tokens"].reshape(-1, TOKENS))
