"""The contract of splice variants: windows, indels, strands, targets and balanced sampling."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.datasets.card import DataError, DatasetIdentity
from assay.datasets.genome import decode_bases, encode_bases
from assay.datasets.splice_variants import BaseDeltas, Effect, SpliceVariants, TargetRecipe, make_targets, sample_balanced, share_effect
from assay.datasets.splice_windows import parse_alleles, substitute, window_start

BASES = st.text("ACGT", min_size=1, max_size=12)


def make_variants(label, target=None, strand=None, sequence="ACGTA"):
    n = len(label)
    codes = np.tile(encode_bases(sequence), (n, 1))
    changed = codes.copy()
    changed[:, 1] = 3
    return SpliceVariants(
        reference=codes,
        alternative=changed,
        position=np.full(n, 1),
        reference_base=codes[:, 1],
        alternative_base=changed[:, 1],
        label=np.array(label, dtype=np.int8),
        target=np.zeros((n, 3), dtype=np.float32) if target is None else np.array(target, dtype=np.float32),
        chromosome=np.full(n, "chr1"),
        gene=np.full(n, ""),
        strand=np.array(strand if strand is not None else [1] * n, dtype=np.int8),
        identity=DatasetIdentity("made-up", "0" * 64, synthetic=True),
        path="table.tsv",
        source="test",
        licence="none",
    )


def test_a_501_nt_window_starts_251_before_the_one_based_position():
    assert window_start(251) == 0
    assert window_start(1000) == 749
    # index 250 of the window is the variant: 0-based 999 for 1-based 1000
    assert window_start(1000) + 250 == 1000 - 1


@pytest.mark.parametrize(
    ("reference", "alternative", "expected"),
    [("C", "T", "AATTGGA"), ("C", "CGG", "AACGGTG"), ("CTG", "C", "AACGANN"), ("CTGGA", "G", "AAGNNNN")],
)
def test_indels_are_trimmed_or_padded_with_n_to_the_same_length(reference, alternative, expected):
    window = encode_bases("AACTGGA")
    assert decode_bases(substitute(window, 2, encode_bases(reference), encode_bases(alternative))) == expected


@given(prefix=BASES, reference=BASES, alternative=BASES, suffix=BASES)
def test_substitution_keeps_length_and_what_stands_before_the_variant(prefix, reference, alternative, suffix):
    window = encode_bases(prefix + reference + suffix)
    changed = decode_bases(substitute(window, len(prefix), encode_bases(reference), encode_bases(alternative)))
    whole = prefix + alternative + suffix
    assert changed == whole[: len(window)].ljust(len(window), "N")


@given(
    chromosome=st.sampled_from(["1", "22", "X", "Y", "M"]),
    position=st.integers(1, 10**9),
    reference=BASES,
    alternative=BASES,
    prefix=st.sampled_from(["", "chr"]),
)
def test_variant_ids_parse_with_and_without_chr(chromosome, position, reference, alternative, prefix):
    text = f"{prefix}{chromosome}-{position}-{reference}-{alternative}"
    if reference == alternative:
        with pytest.raises(DataError, match="changes nothing"):
            parse_alleles(text, Path("t.tsv"), 5)
    else:
        found = parse_alleles(text, Path("t.tsv"), 5)
        assert found.key == f"chr{chromosome}-{position}-{reference}-{alternative}"


@pytest.mark.parametrize("text", ["", "1-5-A", "1-0-A-C", "1-5-A-", "1-5-a-c", "1:5-A-C", "1-5-A-<DEL>", "chrUn-5-A-C", "1-5-A-C-G"])
def test_an_unparsable_variant_id_names_file_row_and_remedy(text):
    with pytest.raises(DataError, match=r"t\.tsv, row 17: .* is not a variant as chrom-pos-ref-alt.*Correct or remove the row"):
        parse_alleles(text, Path("t.tsv"), 17)


def test_orientation_flips_only_what_reads_against_the_gene():
    variants = make_variants([1, 1, 0], strand=[1, -1, 0])
    along = variants.orient()
    assert [decode_bases(row) for row in along.reference] == ["ACGTA", "TACGT", "ACGTA"]
    assert [decode_bases(row) for row in along.alternative] == ["ATGTA", "TACAT", "ATGTA"]
    assert along.position.tolist() == [1, 3, 1]
    assert along.reference_base.tolist() == [1, 2, 1]  # C, its pair G, C
    assert along.alternative_base.tolist() == [3, 0, 3]
    assert along.strand.tolist() == [1, 1, 0]
    rows = np.arange(3)
    assert np.array_equal(along.alternative[rows, along.position], along.alternative_base)


def test_documented_targets_are_the_double_softmax_of_the_plus_strand_in_the_base_models_channel_order():
    deltas = BaseDeltas(
        plus=np.array([[0.1, 0.2, 0.3]] * 3), minus=np.array([[-0.4, -0.5, -0.6]] * 3), double=np.array([[0.01, 0.02, 0.03]] * 3), strand=np.array([1, -1, 1])
    )
    label = np.array([1, 1, 0])
    documented = make_targets(TargetRecipe.DOCUMENTED, label, deltas)
    corrected = make_targets(TargetRecipe.CORRECTED, label, deltas)
    np.testing.assert_allclose(documented, [[0.01, 0.02, 0.03], [0.01, 0.02, 0.03], [0.0, 0.0, 0.0]], rtol=1e-6)
    # donor, acceptor, neither, of the gene's strand
    np.testing.assert_allclose(corrected, [[0.3, 0.2, 0.1], [-0.6, -0.5, -0.4], [0.0, 0.0, 0.0]], rtol=1e-6)


def test_a_scalar_effect_is_shared_and_zero_for_normal():
    np.testing.assert_allclose(share_effect(np.array([1, 0]), np.array([-0.25, 0.5])), [[-0.25, -0.25, 0.25], [0.0, 0.0, 0.0]])


def test_effect_types_follow_the_larger_site_delta_its_sign_and_complexity():
    target = [[0.5, 0.0, -0.5], [-0.3, 0.09, 0.2], [0.05, 0.4, 0], [0.0, -0.2, 0.2], [0.1, -0.4, 0], [0.9, 0.9, 0]]
    variants = make_variants([1, 1, 1, 1, 1, 0], target)
    names = [list(Effect)[index] for index in variants.effect]
    assert names == [Effect.DONOR_GAIN, Effect.DONOR_LOSS, Effect.ACCEPTOR_GAIN, Effect.ACCEPTOR_LOSS, Effect.COMPLEX, Effect.NORMAL]


@pytest.mark.parametrize(("most", "each"), [(None, 3), (100, 3), (4, 2), (5, 2), (1, 1)])
def test_sampling_takes_the_smaller_class_or_half_of_the_limit(most, each):
    variants = make_variants([1] * 3 + [0] * 9)
    rows = sample_balanced(variants, np.arange(12), most, 0, "training")
    assert len(set(rows.tolist())) == len(rows) == 2 * each
    assert variants.label[rows].sum() == each
    assert np.array_equal(rows, sample_balanced(variants, np.arange(12), most, 0, "training"))


@given(label=st.lists(st.integers(0, 1), min_size=2, max_size=60).filter(lambda values: 0 < sum(values) < len(values)), most=st.none() | st.integers(2, 80))
def test_sampling_is_balanced_for_any_shares(label, most):
    variants = make_variants(label)
    rows = sample_balanced(variants, np.arange(len(label)), most, 1, "test")
    expected = min(sum(label), len(label) - sum(label), *([most // 2] if most else []))
    assert (variants.label[rows] == 1).sum() == (variants.label[rows] == 0).sum() == expected


def test_an_empty_class_after_the_split_names_file_class_split_and_remedy():
    variants = make_variants([1, 1, 0])
    with pytest.raises(DataError, match=r"table\.tsv: no Normal variant is left in the test split\. Give more rows, or other chromosomes to hold out"):
        sample_balanced(variants, np.array([0, 1]), None, 0, "test")


def test_taking_rows_takes_every_column():
    variants = make_variants([1, 0, 1], strand=[1, -1, 1])
    taken = variants.take(np.array([2, 1]))
    assert taken.label.tolist() == [1, 0]
    assert taken.strand.tolist() == [1, -1]
    assert len(taken) == 2
    assert taken.length == 5


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("target", np.full((1, 3), np.nan, np.float32), "finite"), ("label", np.zeros(2, np.int8), "shape"), ("reference", np.full((1, 5), 9, np.uint8), "codes")],
)
def test_a_broken_contract_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(make_variants([1]), **{field: value})
