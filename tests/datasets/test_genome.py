"""Windows of FASTA files: coordinates, strands, packed files, slices, and what is said when a file is unfit."""

import gzip

import numpy as np
import pytest

from assay.datasets.card import DataError, MissingData
from assay.datasets.genome import Genome, GenomeFile, OutsideGenome, decode_bases, encode_bases, list_hg38_slices, reverse_complement

SEQUENCE = "ACGTNACCGGTTAAACCCGGGTTT"


def _write(path, name="chr7", sequence=SEQUENCE, line=10):
    lines = [sequence[i : i + line] for i in range(0, len(sequence), line)]
    path.write_text(f">{name} a chromosome\n" + "\n".join(lines) + "\n")
    return path


def test_codes_follow_the_order_acgtn_in_either_case_and_ambiguity_codes_are_n():
    assert encode_bases("ACGTNacgtnRY").tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 4, 4]
    assert encode_bases("A-*").tolist() == [0, 255, 255]
    assert decode_bases(encode_bases(SEQUENCE)) == SEQUENCE


def test_reverse_complement_pairs_and_reverses_and_is_its_own_inverse():
    assert decode_bases(reverse_complement(encode_bases("AACGTN"))) == "NACGTT"
    codes = np.random.default_rng(0).integers(0, 5, (4, 31), dtype=np.uint8)
    assert np.array_equal(reverse_complement(reverse_complement(codes)), codes)


@pytest.mark.parametrize("packed", [False, True])
def test_a_window_is_zero_based_and_half_open_across_lines(tmp_path, packed):
    path = _write(tmp_path / "g.fa")
    if packed:
        (tmp_path / "g.fa.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "g.fa.gz"
    genome = Genome([GenomeFile(path)], tmp_path / "cache")
    assert decode_bases(genome.read("chr7", 0, 4)) == "ACGT"
    assert decode_bases(genome.read("7", 8, 13)) == SEQUENCE[8:13]
    assert decode_bases(genome.read("chr7", 20, 24)) == "GTTT"


def test_a_window_past_either_end_is_outside_and_never_shorter(tmp_path):
    genome = Genome([GenomeFile(_write(tmp_path / "g.fa"))], tmp_path / "cache")
    for start, end in ((-1, 5), (20, 25)):
        with pytest.raises(OutsideGenome, match="not covered"):
            genome.read("chr7", start, end)


def test_a_slice_keeps_the_coordinates_of_its_chromosome(tmp_path):
    genome = Genome([GenomeFile(_write(tmp_path / "s.fa", "anything"), "chr9", 1000)], tmp_path / "cache")
    assert genome.is_sliced
    assert decode_bases(genome.read("chr9", 1005, 1010)) == SEQUENCE[5:10]
    with pytest.raises(OutsideGenome):
        genome.read("chr9", 999, 1005)
    with pytest.raises(OutsideGenome, match="no slice of chr1"):
        genome.read("chr1", 1000, 1005)


def test_the_data_folder_stays_untouched(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    path = _write(folder / "g.fa")
    (folder / "g.fa.gz").write_bytes(gzip.compress(path.read_bytes()))
    Genome([GenomeFile(path)], tmp_path / "cache")
    Genome([GenomeFile(folder / "g.fa.gz")], tmp_path / "cache")
    assert sorted(path.name for path in folder.iterdir()) == ["g.fa", "g.fa.gz"]


def test_a_whole_genome_without_the_chromosome_is_an_error_that_lists_what_it_has(tmp_path):
    genome = Genome([GenomeFile(_write(tmp_path / "g.fa"))], tmp_path / "cache")
    with pytest.raises(DataError, match=r"g\.fa: has no chromosome 'chr21' \(it has chr7, \.\.\.\)\. Give the whole hg38 FASTA"):
        genome.read("chr21", 0, 4)


def test_mitochondria_have_ensembls_name_too(tmp_path):
    genome = Genome([GenomeFile(_write(tmp_path / "g.fa", name="chrM"))], tmp_path / "cache")
    np.testing.assert_array_equal(genome.read("MT", 0, 4), genome.read("chrM", 0, 4))


def test_a_truncated_gzip_is_named_and_leaves_nothing_in_the_cache(tmp_path):
    whole = gzip.compress(_write(tmp_path / "g.fa", sequence=SEQUENCE * 500).read_bytes())
    (tmp_path / "cut.fa.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.fa\.gz: is a truncated or damaged gzip file: .* Download it again"):
        Genome([GenomeFile(tmp_path / "cut.fa.gz")], tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_that_is_no_fasta_or_is_missing_is_named(tmp_path):
    (tmp_path / "bare.fa").write_text(SEQUENCE + "\n")
    with pytest.raises(DataError, match=r"bare\.fa: .*Download it again"):
        Genome([GenomeFile(tmp_path / "bare.fa")], tmp_path / "cache")
    with pytest.raises(MissingData, match=r"absent\.fa: not found"):
        Genome([GenomeFile(tmp_path / "absent.fa")], tmp_path / "cache")


def test_letters_that_are_no_base_are_located(tmp_path):
    genome = Genome([GenomeFile(_write(tmp_path / "g.fa", sequence="ACGT*CGT"))], tmp_path / "cache")
    with pytest.raises(DataError, match="chr7:5 is no base"):
        genome.read("chr7", 2, 8)


def test_the_hg38_slices_lie_where_their_readme_says(real_data, tmp_path):
    genome = Genome(list_hg38_slices(real_data / "hg38_slices"), tmp_path)
    assert genome.is_sliced
    # both ends of each slice
    for chromosome, start, end in (("chr2", 0, 2_333_275), ("chr22", 32_000_000, 32_300_000), ("chr17", 42_424_999, 43_600_000)):
        assert len(genome.read(chromosome, start, end)) == end - start
        with pytest.raises(OutsideGenome):
            genome.read(chromosome, end, end + 1)
