"""The SpliceVarDB contract: classes, coordinates, base-model scores, both target recipes; on real variants with real scores."""

import csv

import numpy as np
import pytest

from assay.datasets.card import DataError
from assay.datasets.genome import Genome, GenomeFile, decode_bases, list_hg38_slices, reverse_complement
from assay.datasets.splice_variants import TargetRecipe
from assay.datasets.splicevardb import read_deltas, read_splicevardb

CHROMOSOME = "ACGTTGCA" * 150
HEADER = "variant_id\thg19\thg38\tgene\thgvs\tmethod\tclassification\tlocation\tdoi"
DELTAS = "chrom,pos_hg38,ref,alt,d_neither,d_acceptor,d_donor,dd_neither,dd_acceptor,dd_donor,minus_d_neither,minus_d_acceptor,minus_d_donor,site_minus"
PLUS = "0.9,-0.1,-0.8,0.3,-0.03,-0.27,0.01,0,-0.01,0.001"
MINUS = "0.02,0,-0.02,0.01,0,-0.01,0.7,-0.7,0,0.99"


def _row(hg38, classification="Splice-altering", gene="BRCA1"):
    return f"1\t1-1-A-C\t{hg38}\t{gene}\tc.1A>C\tRNA\t{classification}\texon\t10.1/x"


def _read(tmp_path, rows, deltas, recipe=TargetRecipe.DOCUMENTED, header=HEADER):
    (tmp_path / "table.tsv").write_text("\n".join([header, *rows]) + "\n")
    (tmp_path / "deltas.csv").write_text("\n".join([DELTAS, *deltas]) + "\n")
    (tmp_path / "g.fa").write_text(f">chr1\n{CHROMOSOME}\n")
    return read_splicevardb(tmp_path / "table.tsv", Genome([GenomeFile(tmp_path / "g.fa")], tmp_path / "cache"), recipe, tmp_path / "deltas.csv")


def test_classes_are_kept_or_dropped_with_counts(tmp_path):
    rows = [
        _row("1-401-A-T"),
        _row("1-402-C-T", "Normal"),
        _row("1-403-G-T", "Low-frequency"),
        _row("1-404-T-A", "Low-frequency"),
        _row("1-405-T-A", "Conflicting"),
        _row("", "Normal"),
        _row("1-406-G-C"),
    ]
    variants = _read(tmp_path, rows, [f"chr1,401,A,T,{PLUS}"])
    assert variants.label.tolist() == [1, 0]
    assert variants.gene.tolist() == ["BRCA1", "BRCA1"]
    expected = {"Low-frequency": 2, "Conflicting": 1, "no hg38 coordinate": 1, "no base-model score": 1, "outside the genome given": 0}
    assert dict(variants.dropped) == expected
    np.testing.assert_allclose(variants.target, [[0.3, -0.03, -0.27], [0.0, 0.0, 0.0]], rtol=1e-6)
    assert decode_bases(variants.reference[0]) == CHROMOSOME[150:651]


def test_the_corrected_recipe_takes_the_genes_strand_and_flips_the_sequence(tmp_path):
    rows = [_row("1-401-A-T"), _row("1-402-C-T"), _row("1-403-G-T", "Normal")]
    scores = [f"1,401,A,T,{PLUS}", f"1,402,C,T,{MINUS}"]
    documented = _read(tmp_path, rows, scores)
    corrected = _read(tmp_path, rows, scores, TargetRecipe.CORRECTED)
    np.testing.assert_allclose(documented.target[1], [0.01, 0, -0.01], rtol=1e-6)  # the wrong strand says next to nothing
    np.testing.assert_allclose(corrected.target, [[-0.8, -0.1, 0.9], [0.0, -0.7, 0.7]], rtol=1e-6)
    assert corrected.dropped["no base-model score"] == 1  # a Normal row without a score has no strand
    assert np.array_equal(corrected.reference[0], documented.reference[0])
    assert np.array_equal(corrected.alternative[1], reverse_complement(documented.alternative[1]))
    assert corrected.reference_base.tolist() == [0, 2]


def test_scores_may_be_columns_of_the_table(tmp_path):
    header = f"{HEADER}\t" + "\t".join(DELTAS.split(",")[4:])
    rows = [_row("1-401-A-T") + "\t" + PLUS.replace(",", "\t"), _row("1-402-C-T", "Normal") + "\t" * 10]
    (tmp_path / "table.tsv").write_text("\n".join([header, *rows]) + "\n")
    (tmp_path / "g.fa").write_text(f">chr1\n{CHROMOSOME}\n")
    genome = Genome([GenomeFile(tmp_path / "g.fa")], tmp_path / "cache")
    variants = read_splicevardb(tmp_path / "table.tsv", genome, TargetRecipe.DOCUMENTED)
    np.testing.assert_allclose(variants.target, [[0.3, -0.03, -0.27], [0.0, 0.0, 0.0]], rtol=1e-6)
    broken = [_row("1-401-A-T") + "\t" + PLUS.replace("0.9,", "nan,").replace(",", "\t")]
    (tmp_path / "table.tsv").write_text("\n".join([header, *broken]) + "\n")
    with pytest.raises(DataError, match=r"table\.tsv, row 2: base-model columns hold a value that is not finite"):
        read_splicevardb(tmp_path / "table.tsv", genome, TargetRecipe.DOCUMENTED)


def test_an_indel_is_padded_and_long_alleles_are_checked(tmp_path):
    at = CHROMOSOME[400:403]
    variants = _read(tmp_path, [_row(f"1-401-{at}-{at[0]}")], [f"1,401,{at},{at[0]},{PLUS}"])
    assert decode_bases(variants.alternative[0]) == CHROMOSOME[150:401] + CHROMOSOME[403:651] + "NN"


@pytest.mark.parametrize(
    ("rows", "deltas", "message"),
    [
        (
            [_row("1-401-A-T", "Non-splice-altering")],
            [f"1,401,A,T,{PLUS}"],
            r"table\.tsv, row 2: classification is 'Non-splice-altering', expected Splice-altering, Normal",
        ),
        ([_row("1-401-A-T"), _row("1_402_C_T")], [f"1,401,A,T,{PLUS}"], r"table\.tsv, row 3: '1_402_C_T' is not a variant"),
        ([_row("1-401-G-T")], [f"1,401,G,T,{PLUS}"], r"table\.tsv, row 2: reference allele of chr1-401-G-T does not match the genome, which has A"),
        ([_row("21-401-A-T")], [f"21,401,A,T,{PLUS}"], r"g\.fa: has no chromosome 'chr21'"),
        ([_row("1-401-A-T")], [f"1,401,A,T,{PLUS.replace('0.3', 'nan')}"], r"deltas\.csv, row 2: dd_neither is 'nan', not a finite number"),
        ([_row("1-401-A-T")], [f"1,401,A,T,{PLUS}", f"chr1,401,A,T,{PLUS}"], r"deltas\.csv, row 3: chr1-401-A-T occurs twice"),
    ],
)
def test_bad_rows_name_file_row_and_remedy(tmp_path, rows, deltas, message):
    with pytest.raises(DataError, match=message):
        _read(tmp_path, rows, deltas)


def test_missing_columns_are_named(tmp_path):
    with pytest.raises(DataError, match=r"table\.tsv, row 1: has no column 'classification'"):
        _read(tmp_path, ["1-1-A-C\tX"], [], header="hg38\tgene")
    (tmp_path / "d.csv").write_text("chrom,pos_hg38,ref,alt,d_neither\n1,2,A,C,0\n")
    with pytest.raises(DataError, match=r"d\.csv, row 1: has no column 'd_acceptor', 'd_donor'"):
        read_deltas(tmp_path / "d.csv")


def test_real_variants_with_real_scores_fit_the_contract(real_data, tmp_path):
    scores = real_data / "mfass" / "openspliceai_deltas.csv"
    with scores.open() as stream:
        listed = list(csv.DictReader(stream))
    rows = [_row(f"{r['chrom']}-{r['pos_hg38']}-{r['ref']}-{r['alt']}", "Splice-altering" if float(r["max_abs"]) > 0.1 else "Normal", r["id"]) for r in listed]
    (tmp_path / "table.tsv").write_text("\n".join([HEADER, *rows]) + "\n")
    genome = Genome(list_hg38_slices(real_data / "hg38_slices"), tmp_path / "cache")
    documented = read_splicevardb(tmp_path / "table.tsv", genome, TargetRecipe.DOCUMENTED, scores)
    corrected = read_splicevardb(tmp_path / "table.tsv", genome, TargetRecipe.CORRECTED, scores)
    assert len(documented) == len(corrected) == 149
    ceiling = (np.e - 1) / (np.e + 2)
    assert np.abs(documented.target).max() == pytest.approx(0.346073)
    assert np.abs(documented.target).max() < ceiling < np.abs(corrected.target).max() == pytest.approx(0.944338)
    assert (documented.strand < 0).sum() == 34
    lost = documented.gene.tolist().index("ENSE00001296527_017")
    np.testing.assert_allclose(corrected.target[lost], [-0.944338, 0.000003, 0.944335])
    np.testing.assert_allclose(documented.target[lost], [0.346073, -0.000593, -0.34548])  # "neither" under the name of donor
