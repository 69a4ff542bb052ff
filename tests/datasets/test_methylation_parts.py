"""The user's own samples in two parts: none in both, none that contradicts another, in either format."""

import h5py
import numpy as np
import pytest

from assay.datasets.card import DataError, MissingData
from assay.datasets.methylation import TOKENS
from assay.datasets.methylation_parts import NAMELESS, identify_parts, open_parts

REGIONS = 4


def write_npz(folder, part, samples, regions=REGIONS, **changes):
    """samples: (file, sample_name, tissue_index); the 1 of tissue_label stands 40 places further."""
    for number, (file, name, tissue) in enumerate(samples):
        members = {
            "dna_tokens": np.full((regions, TOKENS), number, np.int32),
            "methylation": np.ones((regions, TOKENS), np.uint8),
            "region_ids": np.array([f"chr1:{i}" for i in range(regions)]),
            "tissue_label": np.eye(119, dtype=np.float32)[tissue + 40],
            "sample_name": name,
        } | changes
        np.savez(folder / file, **{key: value for key, value in members.items() if value is not None})
    (folder / f"{part}.csv").write_text("filename,tissue_index\n" + "".join(f"{file},{tissue}\n" for file, _, tissue in samples))


def write_hdf5(folder, part, labels, regions=REGIONS, **attributes):
    with h5py.File(folder / f"{part}.h5", "w") as file:
        for name in ("dna_tokens", "methylation"):
            file.create_dataset(name, data=np.full((len(labels), regions, TOKENS), 1, np.uint8) * np.arange(len(labels), dtype=np.uint8)[:, None, None] % 3)
        file.attrs.update({"n_regions_per_file": regions, "seq_length": TOKENS, "n_tissues": 22, "tissue_labels": labels, **attributes})


TRAIN = [("a.npz", "a", 0), ("b.npz", "b", 3), ("c.npz", "c", 3)]


def test_npz_samples_that_are_also_tested_leave_the_training_part(tmp_path):
    write_npz(tmp_path, "train", TRAIN)
    write_npz(tmp_path, "test", [("other.npz", "b", 3)])
    (tmp_path / "test.csv").write_text("filename,tissue_index\nother.npz,3\n./a.npz,0\n")
    parts = open_parts(tmp_path)
    assert parts.dropped == {"training samples whose file is in test": 1, "training samples whose name is in test": 1}
    assert (list(parts.train.names or ()), parts.train.label.tolist(), len(parts.train)) == (["c"], [3], REGIONS)
    assert parts.train.take(np.arange(REGIONS)).tokens[:, 0].tolist() == [2] * REGIONS
    assert (len(parts.test), parts.notes) == (2 * REGIONS, ())


def test_hdf5_samples_that_are_also_tested_leave_the_training_part(tmp_path):
    write_hdf5(tmp_path, "train", [5, 6, 7], sample_names=["a", "b", "c"])
    write_hdf5(tmp_path, "test", [6, 6], sample_names=["x", "b"])
    parts = open_parts(tmp_path)
    assert parts.dropped == {"training samples whose file is in test": 0, "training samples whose name is in test": 1}
    assert (list(parts.train.names or ()), parts.train.label.tolist()) == (["a", "c"], [5, 7])
    reads = parts.train.take(np.array([0, REGIONS, 2 * REGIONS - 1]))
    assert (reads.tokens[:, 0].tolist(), reads.label.tolist(), reads.region.tolist()) == ([0, 2, 2], [5, 7, 7], [0, 0, REGIONS - 1])


def test_hdf5_samples_without_names_are_told_of(tmp_path):
    write_hdf5(tmp_path, "train", [5, 6])
    write_hdf5(tmp_path, "test", [6])
    parts = open_parts(tmp_path)
    assert (parts.notes, sum(parts.dropped.values()), len(parts.train)) == ((NAMELESS,), 0, 2 * REGIONS)
    (tmp_path / "test.h5").unlink()
    (tmp_path / "test.h5").symlink_to("train.h5")
    with pytest.raises(DataError, match="every training sample is also a test sample"):
        open_parts(tmp_path)


def test_labels_and_samples_of_rows_are_known_without_reading_them(tmp_path):
    write_hdf5(tmp_path, "train", [5, 6])
    write_npz(tmp_path, "test", TRAIN)
    parts = open_parts(tmp_path)
    rows = np.array([REGIONS, 0, REGIONS - 1])
    assert (parts.train.find_labels(rows).tolist(), np.asarray(parts.train.find_groups(rows)).tolist()) == ([6, 5, 5], [1, 0, 0])
    assert (parts.test.find_labels(rows).tolist(), np.asarray(parts.test.find_groups(rows)).tolist()) == ([3, 0, 0], [1, 0, 0])


def one_hot(place, width=119):
    return np.eye(width, dtype=np.float32)[place]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tissue_label": one_hot(40)}, r"y.npz: tissue_label has its 1 at 40; so has a.npz, but one is of tissue_index 3, the other of 0"),
        ({"tissue_label": one_hot(3, 22)}, r"y.npz: tissue_label has 22 classes, that of a.npz 119"),
        ({"tissue_label": 2 * one_hot(43)}, r"y.npz: tissue_label \[119\] is not one-hot"),
        ({"tissue_label": one_hot(43) + one_hot(2)}, r"y.npz: tissue_label \[119\] is not one-hot"),
        ({"tissue_label": np.array(["x"])}, r"y.npz: tissue_label \[1\] is not one-hot"),
        ({"region_ids": np.array(["chr1:0", "chr1:1", "chr1:9", "chr1:3"])}, r"y.npz: region 2 is chr1:9, in a.npz chr1:2"),
        ({"region_ids": np.array(["chr1:0"])}, r"y.npz: region_ids has the shape \[1\], in a.npz \[4\]"),
        ({"sample_name": ""}, "y.npz: has an empty sample_name"),
        ({"sample_name": None}, "y.npz: has no array 'sample_name'"),
        ({"region_ids": None}, "y.npz: has no array 'region_ids'"),
        ({"sample_name": np.array([{}], dtype=object)}, "y.npz: sample_name cannot be read"),
    ],
)
def test_npz_samples_that_contradict_each_other_are_refused(tmp_path, changes, problem):
    write_npz(tmp_path, "train", TRAIN)
    write_npz(tmp_path, "test", [("y.npz", "y", 3)], **changes)
    (tmp_path / "train.csv").write_text("filename,tissue_index\na.npz,0\nb.npz,3\nc.npz,3\ny.npz,3\n")
    write_hdf5(tmp_path, "test", [3])
    with pytest.raises(DataError, match=problem):
        open_parts(tmp_path)


def test_a_tissue_may_have_several_of_the_119_classes(tmp_path):
    write_npz(tmp_path, "train", TRAIN)
    write_npz(tmp_path, "test", [("y.npz", "y", 3)], tissue_label=one_hot(44))
    assert open_parts(tmp_path).test.label.tolist() == [3]


def test_two_tissues_of_one_class_and_classes_that_are_the_tissues(tmp_path):
    write_npz(tmp_path, "train", TRAIN)
    write_npz(tmp_path, "test", [("y.npz", "y", 4)], tissue_label=one_hot(43))
    with pytest.raises(DataError, match=r"y.npz: tissue_label has its 1 at 43; so has b.npz, but one is of tissue_index 4, the other of 3"):
        open_parts(tmp_path)
    write_npz(tmp_path, "test", [("y.npz", "y", 4)], tissue_label=one_hot(3, 22))
    with pytest.raises(DataError, match=r"y.npz: tissue_label has its 1 at 3; the list says tissue_index 4"):
        open_parts(tmp_path)


def test_the_same_regions_in_wider_fields_are_the_same_regions(tmp_path):
    write_npz(tmp_path, "train", TRAIN)
    write_npz(tmp_path, "test", [("y.npz", "y", 3)], region_ids=np.array([f"chr1:{i}" for i in range(REGIONS)], dtype="U50"))
    assert len(open_parts(tmp_path).test) == REGIONS
    write_npz(tmp_path, "test", [("y.npz", "y", 3)], region_ids=np.array([f"chr2:{i}" for i in range(REGIONS)]))
    with pytest.raises(DataError, match=r"y.npz: region 0 is chr2:0, in a.npz chr1:0"):
        open_parts(tmp_path)
    write_npz(tmp_path, "test", [("y.npz", "y", 3)], regions=2)
    with pytest.raises(DataError, match="the train samples have 4 regions, the test samples 2"):
        open_parts(tmp_path)
    write_npz(tmp_path, "test", [("y.npz", "y", 3)], region_ids=np.array(["chr1:0"]))
    with pytest.raises(DataError, match=r"y.npz: region_ids has the shape \[1\], the reads are of 4 regions"):
        open_parts(tmp_path)


def test_a_listed_file_that_is_not_there_is_named(tmp_path):
    write_npz(tmp_path, "train", TRAIN)
    write_npz(tmp_path, "test", [("y.npz", "y", 3)])
    assert identify_parts(tmp_path).name == "tissuebert-files"
    (tmp_path / "b.npz").unlink()
    with pytest.raises(MissingData, match=r"b.npz: not found. .*correct the list"):
        identify_parts(tmp_path)
    with pytest.raises(MissingData, match=r"b.npz: not found. .*correct the list"):
        open_parts(tmp_path)
