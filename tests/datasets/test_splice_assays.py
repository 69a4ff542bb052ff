"""MaPSy, Vex-seq and MFASS: the real files' counts, the rules of labels and effects, and every way a table can be wrong."""

import numpy as np
import pytest

from assay.datasets.card import DataError, MissingData
from assay.datasets.genome import Genome, GenomeFile, decode_bases, list_hg38_slices
from assay.datasets.splice_assays import MAPSY_FILE, MFASS_SCORES, MFASS_VARIANTS, VEXSEQ_FILE, read_mapsy, read_mfass, read_mfass_variants, read_vexseq
from assay.datasets.splice_windows import cut_windows

MAPSY_HEADER = "WT_SEQ,MUT_SEQ,log2_vivo_ratio,ESM,chr"
WILD, MUTANT = "A" * 200, "A" * 99 + "G" + "A" * 100


def _mapsy(tmp_path, *rows, header=MAPSY_HEADER):
    path = tmp_path / "mapsy.txt"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_mapsy_effect_is_the_centred_allelic_ratio(tmp_path):
    path = _mapsy(tmp_path, f"{WILD},{MUTANT},0,1,chr1", f"{WILD},{MUTANT},-1,1,chr2", f"{WILD},{MUTANT},1,0,chr3")
    variants = read_mapsy(path)
    # rho = 1, 1/2: rho / (1 + rho) - 1/2 = 0, -1/6; the Normal row's target is zero whatever its ratio
    np.testing.assert_allclose(variants.target, [[0.0, 0.0, 0.0], [-1 / 6, -1 / 6, 1 / 6], [0.0, 0.0, 0.0]], rtol=1e-6)
    assert variants.position.tolist() == [99, 99, 99]
    assert variants.reference_base.tolist() == [0, 0, 0]
    assert variants.alternative_base.tolist() == [2, 2, 2]
    assert variants.strand.tolist() == [1, 1, 1]


def test_mapsy_ratios_without_a_measurement_are_left_out_and_counted(tmp_path):
    rows = [f"{WILD},{MUTANT},{ratio},0,chr1" for ratio in ("0.5", "Inf", "-Inf", "-Inf", "", "NA")]
    variants = read_mapsy(_mapsy(tmp_path, *rows))
    assert len(variants) == 1
    assert dict(variants.dropped) == {"log2_vivo_ratio is NaN": 2, "log2_vivo_ratio is Inf": 1, "log2_vivo_ratio is -Inf": 2}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"{WILD},{MUTANT},nan,1,chr1", "row 3: log2_vivo_ratio of a variant labelled ESM is not a finite number"),
        (f"{WILD},{MUTANT},abc,0,chr1", "row 3: log2_vivo_ratio is 'abc', not a number"),
        (f"{WILD},{MUTANT},0.5,2,chr1", "row 3: ESM is '2', expected 0 or 1"),
        (f"{WILD},{MUTANT[:-1]}Z,0.5,1,chr1", "row 3: MUT_SEQ holds letters other than A, C, G, T, N"),
        (f"{WILD}A,{MUTANT},0.5,1,chr1", "row 3: WT_SEQ has 201 letters, expected 1 to 200"),
        (f"{WILD},{MUTANT},0.5", "row 3: has 3 fields, expected at least 5"),
    ],
)
def test_a_bad_mapsy_row_is_named_with_a_remedy(tmp_path, row, message):
    with pytest.raises(DataError, match=rf"mapsy\.txt, {message}.*(Correct or remove the row|Download the file again)"):
        read_mapsy(_mapsy(tmp_path, f"{WILD},{MUTANT},0.5,1,chr1", row))


def test_a_missing_column_file_or_every_row_is_named(tmp_path):
    with pytest.raises(DataError, match=r"mapsy\.txt, row 1: has no column 'ESM'\. Give a file with the columns WT_SEQ"):
        read_mapsy(_mapsy(tmp_path, f"{WILD},{MUTANT},0,chr1", header="WT_SEQ,MUT_SEQ,log2_vivo_ratio,chr"))
    with pytest.raises(DataError, match="holds no rows"):
        read_mapsy(_mapsy(tmp_path))
    with pytest.raises(MissingData, match="not found"):
        read_mapsy(tmp_path / "absent.txt")


def test_vexseq_labels_by_percentage_points_and_targets_are_fractions(tmp_path):
    path = tmp_path / "v.csv"
    rows = ["ACGTA,ACTTA,10,chr1", "ACGTA,ACTTA,-25,chr2", "ACGTA,ACTTA,4.99,chr3", "ACGTA,ACTTA,5,chr4", "ACGTA,ACT,0,chr5"]
    path.write_text("\n".join(["REF_SEQ,ALT_SEQ,HepG2_delta_psi,seqnames", *rows]) + "\n")
    variants = read_vexseq(path)
    assert variants.label.tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(variants.target[:, 0], [0.1, -0.25, 0, 0])
    assert variants.dropped == {"|delta PSI| from 5 to 10 percentage points": 1}
    assert decode_bases(variants.alternative[3]) == "ACTNN"


@pytest.mark.parametrize("value", ["nan", "inf", ""])
def test_a_vexseq_effect_must_be_finite(tmp_path, value):
    path = tmp_path / "v.csv"
    path.write_text(f"REF_SEQ,ALT_SEQ,HepG2_delta_psi,seqnames\nACGTA,ACTTA,{value},chr1\n")
    with pytest.raises(DataError, match=r"v\.csv, row 2: HepG2_delta_psi is .*, not a finite number\. Correct or remove the row"):
        read_vexseq(path)


def _mfass(tmp_path, variants, scores, genome=">chr1\n" + "ACGT" * 300 + "\n", start=None):
    (tmp_path / "snv.vcf").write_text("".join(line + "\n" for line in variants))
    (tmp_path / "scores.txt").write_text("\n".join(["id\tv2_dpsi\tstrong_lof", *scores]) + "\n")
    (tmp_path / "g.fa").write_text(genome)
    file = GenomeFile(tmp_path / "g.fa") if start is None else GenomeFile(tmp_path / "g.fa", "chr1", start)
    return read_mfass(tmp_path / "scores.txt", tmp_path / "snv.vcf", Genome([file], tmp_path / "cache"))


def test_mfass_joins_on_id_and_cuts_the_window_around_the_one_based_position(tmp_path):
    variants = _mfass(tmp_path, ["1\t401\tE1_001\tA\tT", "1\t402\tE1_002\tC\tG", "1\t403\tE2_001\tG\tA"], ["E1_001\t-0.7\tTRUE", "E2_001\t0.2\tFALSE"])
    assert variants.label.tolist() == [1, 0]
    assert variants.gene.tolist() == ["E1", "E2"]
    assert variants.dropped == {"no measured score": 1, "outside the genome given": 0}
    assert variants.reference.shape == (2, 501)
    assert decode_bases(variants.reference[0]) == ("ACGT" * 300)[150:651]
    assert variants.position.tolist() == [250, 250]
    np.testing.assert_allclose(variants.target[0], [-0.7, -0.7, 0.7], rtol=1e-6)


def test_mfass_outside_a_slice_is_counted_but_in_a_whole_genome_without_the_chromosome_is_an_error(tmp_path):
    inside = _mfass(tmp_path, ["1\t1401\tE1_001\tA\tT", "2\t50\tE2_001\tG\tA"], ["E1_001\t-0.7\tTRUE", "E2_001\t0.2\tFALSE"], start=1000)
    assert inside.dropped["outside the genome given"] == 1
    with pytest.raises(DataError, match=r"g\.fa: has no chromosome 'chr2'"):
        _mfass(tmp_path, ["2\t401\tE1_001\tA\tT"], ["E1_001\t-0.7\tTRUE"])


def test_a_reference_allele_that_does_not_match_names_the_row_and_both_bases(tmp_path):
    with pytest.raises(
        DataError, match=r"snv\.vcf, row 2: reference allele of chr1-402-G-T does not match the genome, which has C\. Give the FASTA of the assembly"
    ):
        _mfass(tmp_path, ["1\t401\tE1_001\tA\tT", "1\t402\tE1_002\tG\tT"], ["E1_001\t-0.7\tTRUE", "E1_002\t0\tFALSE"])


def test_mfass_labels_and_positions_are_checked(tmp_path):
    with pytest.raises(DataError, match=r"scores\.txt, row 2: strong_lof is 'maybe', expected FALSE or TRUE"):
        _mfass(tmp_path, ["1\t401\tE1_001\tA\tT"], ["E1_001\t-0.7\tmaybe"])
    with pytest.raises(DataError, match=r"snv\.vcf, row 1: '1-x-A-T' is not a variant"):
        _mfass(tmp_path, ["1\tx\tE1_001\tA\tT"], ["E1_001\t-0.7\tTRUE"])
    with pytest.raises(DataError, match="no variant lies inside the genome given"):
        _mfass(tmp_path, ["1\t3\tE1_001\tG\tT"], ["E1_001\t-0.7\tTRUE"])


def test_the_real_mapsy_table_has_4951_rows_of_which_440_are_positive(real_data):
    variants = read_mapsy(real_data / MAPSY_FILE)
    assert dict(variants.dropped) == {"log2_vivo_ratio is NaN": 132, "log2_vivo_ratio is Inf": 225, "log2_vivo_ratio is -Inf": 153}
    assert len(variants) + sum(variants.dropped.values()) == 4951
    assert variants.label.sum() == 440
    held = np.isin(variants.chromosome, ["chr21", "chr22"])
    # 149 rows of the two chromosomes, 17 of them without a finite ratio
    assert (int(held.sum()), int(variants.label[held].sum())) == (132, 6)
    assert (variants.reference != variants.alternative).sum(axis=1).tolist() == [1] * len(variants)


def test_the_real_vexseq_table_has_957_rows(real_data):
    variants = read_vexseq(real_data / VEXSEQ_FILE)
    assert len(variants) + sum(variants.dropped.values()) == 957
    assert (int(variants.label.sum()), variants.length) == (226, 298)


def test_the_real_mfass_join_has_27663_variants_and_149_lie_inside_the_slices_with_matching_alleles(real_data, tmp_path):
    genome = Genome(list_hg38_slices(real_data / "hg38_slices"), tmp_path)
    listed = read_mfass_variants(real_data / MFASS_VARIANTS)
    windows = cut_windows(genome, listed, real_data / MFASS_VARIANTS)  # raises where a reference allele does not match
    inside = [listed[index].chromosome for index in windows.kept]
    assert {name: inside.count(name) for name in set(inside)} == {"chr2": 26, "chr22": 24, "chr17": 99}
    variants = read_mfass(real_data / MFASS_SCORES, real_data / MFASS_VARIANTS, genome)
    assert len(variants) + variants.dropped["outside the genome given"] == 27_663
    assert (len(variants), int(variants.label.sum())) == (136, 2)
