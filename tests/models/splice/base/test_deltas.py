"""Delta scores: against a loop over single positions, under reversal of the strands, and exact numbers from a network that knows GT and AG."""

from pathlib import Path

import numpy as np
import pytest
import torch

from assay.datasets.base_windows import Skipped, cut_base_window
from assay.datasets.card import DataError
from assay.datasets.genome import BASES, Genome, GenomeFile, encode_bases
from assay.datasets.splice_windows import parse_alleles
from assay.models.splice.base.deltas import score_windows
from assay.models.splice.base.network import SPLICEAI_80NT
from tests.models.splice.base.test_network import make_model

CPU = torch.device("cpu")
PAIRS = str.maketrans("ACGT", "TGCA")
K = SPLICEAI_80NT.context // 2


class MotifModel(torch.nn.Module):
    """Donor 0.9 on the G of GT, acceptor 0.8 on the G of AG, else neither."""

    architecture = SPLICEAI_80NT

    def forward(self, x):
        here, following, preceding = x[:, :, K:-K], x[:, :, K + 1 : -K + 1], x[:, :, K - 1 : -K - 1]
        donor, acceptor = 0.9 * here[:, 2] * following[:, 3], 0.8 * here[:, 2] * preceding[:, 0] * (1 - following[:, 3])
        return torch.stack([1 - donor - acceptor, acceptor, donor], dim=1)


def make_genome(folder, sequence, chromosome="chr1"):
    path = Path(folder) / f"{len(sequence)}-{sequence[:30]}.fa"
    path.write_text(f">{chromosome}\n{sequence}\n")
    return Genome([GenomeFile(path)], Path(folder) / "cache")


def random_sequence(length, seed=0):
    return "".join(BASES[code] for code in np.random.default_rng(seed).integers(0, 4, length))


def cut(genome, text, context=SPLICEAI_80NT.context):
    return cut_base_window(genome, parse_alleles(text, Path("v.vcf"), 7), Path("v.vcf"), context)


def score(model, folder, sequence, *texts):
    genome = make_genome(folder, sequence)
    return score_windows(model, [cut(genome, text) for text in texts], CPU)


def predict_one(model, sequence, at):
    """Probabilities at one index of a text, from a pass over its own context alone."""
    codes = torch.from_numpy(encode_bases(sequence[at - K : at + K + 1]).astype(int))
    with torch.inference_mode():
        return model(torch.nn.functional.one_hot(codes, 4).T[None].float())[0, :, 0].double().numpy()


def score_naively(model, sequence, position, reference, alternative, *, minus):
    """A single-nucleotide variant, position by position."""
    changed = sequence[: position - 1] + alternative + sequence[position - 1 + len(reference) :]
    offsets, site = range(-50, 51), 0.0
    differences: list[np.ndarray] = []
    doubled: list[np.ndarray] = []
    for offset in offsets:
        at = position - 1 + offset
        texts = [text.translate(PAIRS)[::-1] if minus else text for text in (sequence, changed)]
        before, after = (predict_one(model, text, len(text) - 1 - at if minus else at) for text in texts)
        differences.append(after - before)
        doubled.append(np.exp(after) / np.exp(after).sum() - np.exp(before) / np.exp(before).sum())
        site = max(site, before[1:].max())
    change = np.array(differences)
    best, best_doubled = (np.abs(np.array(values)).sum(axis=1).argmax() for values in (differences, doubled))
    extremes = [change[:, 1].max(), -change[:, 1].min(), change[:, 2].max(), -change[:, 2].min()]
    return np.clip(extremes, 0, None), differences[best], offsets[best], doubled[best_doubled], site


def test_a_batch_equals_a_loop_over_single_positions_on_either_strand(tmp_path):
    sequence, model = random_sequence(2_500), make_model(SPLICEAI_80NT)
    model.final_conv.weight.data *= 20  # random weights alone hardly tell positions apart
    changes = [(1_200, "A"), (1_300, "C"), (1_261, "G")]
    variants = [(position, sequence[position - 1], base if sequence[position - 1] != base else "T") for position, base in changes]
    scores = score(model, tmp_path, sequence, *(f"1-{position}-{reference}-{alternative}" for position, reference, alternative in variants))
    for minus, ours in ((False, scores.plus), (True, scores.minus)):
        for row, variant in enumerate(variants):
            extremes, delta, offset, doubled, site = score_naively(model, sequence, *variant, minus=minus)
            np.testing.assert_allclose(ours.gains_losses[row], extremes, atol=1e-5)
            np.testing.assert_allclose(ours.delta[row], delta, atol=1e-5)
            np.testing.assert_allclose(ours.double[row], doubled, atol=1e-5)
            assert ours.offset[row] == offset
            assert ours.site[row] == pytest.approx(site, abs=1e-5)


def test_the_reverse_complement_swaps_the_strands_and_keeps_donor_and_acceptor(tmp_path):
    sequence, model = random_sequence(2_501, seed=3), make_model(SPLICEAI_80NT)
    reference = sequence[1_250]
    alternative = "A" if reference != "A" else "C"
    forward = score(model, tmp_path, sequence, f"1-1251-{reference}-{alternative}")
    backward = score(model, tmp_path, sequence.translate(PAIRS)[::-1], f"1-1251-{reference.translate(PAIRS)}-{alternative.translate(PAIRS)}")
    for one, other in ((forward.plus, backward.minus), (forward.minus, backward.plus)):
        for name in ("gains_losses", "delta", "double", "site"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-6)
        assert one.offset[0] == -other.offset[0]


def plant(**motifs):
    """1,101 + 1,100 nt of C with motifs at offsets from the variant at position 1,101; keys `at_10` or `before_10`."""
    letters = list("C" * 2_201)
    for name, motif in motifs.items():
        side, distance = name.split("_")
        start = 1_100 + (int(distance) if side == "at" else -int(distance))
        letters[start : start + len(motif)] = motif
    return "".join(letters)


def test_gain_and_loss_have_exact_values_and_places(tmp_path):
    gain = score(MotifModel(), tmp_path, plant(at_0="C", at_1="T", before_20="GT"), "1-1101-C-G").plus
    np.testing.assert_allclose(gain.gains_losses, [[0, 0, 0.9, 0]], atol=1e-7)
    np.testing.assert_allclose(gain.delta, [[-0.9, 0, 0.9]], atol=1e-7)
    assert (gain.offset[0], gain.site[0]) == (0, pytest.approx(0.9))
    total = np.exp(0.1) + 1 + np.exp(0.9)
    expected = [np.exp(0.1) / total - np.e / (np.e + 2), 1 / total - 1 / (np.e + 2), np.exp(0.9) / total - 1 / (np.e + 2)]
    np.testing.assert_allclose(gain.double, [expected], atol=1e-7)

    loss = score(MotifModel(), tmp_path, plant(at_0="A", at_1="G"), "1-1101-A-C").plus
    np.testing.assert_allclose(loss.gains_losses, [[0, 0.8, 0, 0]], atol=1e-7)
    np.testing.assert_allclose(loss.delta, [[0.8, -0.8, 0]], atol=1e-7)
    assert loss.offset[0] == 1


def test_a_site_of_the_minus_strand_is_found_there_at_its_place_on_the_plus_strand(tmp_path):
    scores = score(MotifModel(), tmp_path, plant(at_30="AC", at_0="A"), "1-1101-A-C")  # AC reads GT on the other strand
    assert scores.strand == ["-"]
    assert (scores.plus.site[0], scores.minus.site[0]) == (0, pytest.approx(0.9))
    lost = score(MotifModel(), tmp_path, plant(at_0="AC"), "1-1101-A-T").minus
    np.testing.assert_allclose(lost.delta, [[0.9, 0, -0.9]], atol=1e-7)
    assert lost.offset[0] == 1  # the G of GT pairs with the C


@pytest.mark.parametrize("change", ["CC-C", "CCCCCC-C", "C-CC", "C-CCCCCCCC", "CC-GG"])
def test_sites_around_an_insertion_or_deletion_move_along(tmp_path, change):
    scores = score(MotifModel(), tmp_path, plant(before_30="AG", at_30="GT", at_40="AC"), f"1-1101-{change}", "1-1101-C-G")
    for strand in (scores.plus, scores.minus):
        np.testing.assert_allclose(strand.gains_losses, 0, atol=1e-7)
        np.testing.assert_allclose(strand.delta, 0, atol=1e-7)
    moved = len(set(map(len, change.split("-")))) > 1
    assert (abs(scores.plus.double[0]).max() > 0.2) == moved  # the documents' comparison, index by index, sees a loss and a gain
    np.testing.assert_allclose(scores.plus.double[1], 0, atol=1e-7)


def test_a_deleted_site_is_lost_and_an_inserted_one_gained(tmp_path):
    deleted = score(MotifModel(), tmp_path, plant(at_2="GT"), "1-1101-CCGTC-C").plus
    np.testing.assert_allclose(deleted.gains_losses, [[0, 0, 0, 0.9]], atol=1e-7)
    assert deleted.offset[0] == 2
    inserted = score(MotifModel(), tmp_path, plant(), "1-1101-C-CCAGC").plus
    np.testing.assert_allclose(inserted.gains_losses, [[0.8, 0, 0, 0]], atol=1e-7)
    np.testing.assert_allclose(inserted.delta, [[-0.8, 0.8, 0]], atol=1e-7)
    assert inserted.offset[0] == 0


def test_windows_at_the_end_of_a_chromosome_scan_what_has_its_context_and_are_skipped_below_the_minimum(tmp_path):
    genome = make_genome(tmp_path, random_sequence(1_105, seed=5))  # 1,080 nt are the least for 80 nt of context

    sequence = "".join(BASES[code] for code in genome.read("chr1", 0, 1_105))

    def cut_snv(position):
        reference = sequence[position - 1]
        return cut(genome, f"1-{position}-{reference}-{'A' if reference != 'A' else 'C'}")

    covered = cut_snv(50).covered  # 49 nt lie before it, of which 40 are context
    assert covered.sum() == 9 + 1 + 50
    assert not covered[: 50 - 9].any()
    with pytest.raises(Skipped, match="window below 1,080 nt"):
        cut_snv(39)
    assert cut_snv(40).covered.sum() == 50
    with pytest.raises(DataError, match=r"v\.vcf, row 7: chr1-1106-A-C lies beyond the end of its chromosome.*cut short"):
        cut(genome, "1-1106-A-C")


def test_a_reference_allele_that_the_genome_does_not_have_is_an_error_with_its_row(tmp_path):
    with pytest.raises(DataError, match=r"v\.vcf, row 7: reference allele of chr1-1101-G-T does not match the genome, which has C"):
        score(MotifModel(), tmp_path, plant(), "1-1101-G-T")


def test_a_change_that_would_leave_no_context_is_skipped(tmp_path):
    genome = make_genome(tmp_path, "C" * 5_000)
    assert cut(genome, f"1-2500-C-{'C' * 951}").covered.all()
    with pytest.raises(Skipped, match="longer than 950 nt"):
        cut(genome, f"1-2500-C-{'C' * 952}")
