"""The file of deltas: schema and order on real variants, what is left out, interruption, and the command as a user meets it."""

import csv
import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.bench.case import UsageError
from assay.datasets.card import DataError
from assay.datasets.genome import Genome, GenomeFile
from assay.datasets.splice_tables import read_columns
from assay.datasets.splice_variants import TargetRecipe
from assay.datasets.splicevardb import read_deltas, read_splicevardb
from assay.datasets.variant_lists import read_variant_list
from assay.models.splice.base import write_splice_targets
from assay.models.splice.base.network import PUBLISHED_MODELS, SPLICEAI_10K, SPLICEAI_80NT
from tests.conftest import ROOT
from tests.models.splice.base.test_network import make_model

SEQUENCE = "".join("ACGT"[code] for code in np.random.default_rng(2).integers(0, 4, 3_000))
TABLE_HEADER = "variant_id\thg19\thg38\tgene\thgvs\tmethod\tclassification\tlocation\tdoi"


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    for seed in (1, 2):
        model = make_model(SPLICEAI_80NT, seed)
        model.final_conv.weight.data *= 20
        torch.save(model.state_dict(), folder / f"model_rs{seed}.pt")
    return folder


def write_genome(folder, sequence=SEQUENCE):
    path = folder / "genome.fa"
    path.write_text(f">chr1\n{sequence}\n")
    return path


def write_vcf(folder, positions, extra=()):
    rows = [f"1\t{at}\tv{at}\t{SEQUENCE[at - 1]}\t{'A' if SEQUENCE[at - 1] != 'A' else 'C'}\t.\tPASS\t." for at in positions]
    path = folder / "variants.vcf"
    path.write_text("\n".join(["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO", *rows, *extra]) + "\n")
    return path


def write_targets(variants, fasta, weights, out, **options):
    return write_splice_targets(variants, fasta, weights, out, device=torch.device("cpu"), cache=out.parent / "cache", architecture=SPLICEAI_80NT, **options)


def read_rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_real_variants_come_out_in_the_order_and_columns_of_the_reference_file(real_data, weights, tmp_path):
    out = tmp_path / "deltas.csv"
    report = write_targets(real_data / "mfass" / "snv.vcf", real_data / "hg38_slices", weights, out, batch=32)
    ours, reference = read_rows(out), read_rows(real_data / "mfass" / "openspliceai_deltas.csv")
    assert (report.rows, report.models, report.resumed) == (149, 2, 0)
    assert sum(report.skipped.values()) == 28_972 - 149
    identity = ("chrom", "pos_hg38", "ref", "alt", "id")
    assert [[row[name] for name in identity] for row in ours] == [[row[name] for name in identity] for row in reference]
    labels_of_the_assay, added = {"v2_dpsi", "strong_lof"}, {"site_plus", "strand"}
    assert [name for name in ours[0] if name not in added] == [name for name in reference[0] if name not in labels_of_the_assay]
    assert list(read_deltas(out)) == list(read_deltas(real_data / "mfass" / "openspliceai_deltas.csv"))
    for row in ours:
        sizes = [max(abs(float(row[f"{strand}d_{name}"])) for name in ("neither", "acceptor", "donor")) for strand in ("", "minus_")]
        assert [float(row["max_abs"]), float(row["minus_max_abs"]), float(row["best_max_abs"])] == [*sizes, max(sizes)]
        assert -50 <= int(row["offset"]) <= 50
        assert float(row["max_abs_double_softmax"]) <= 0.364176
    assert any(float(row["best_max_abs"]) > 0.05 for row in ours)


def test_the_10k_network_scores_a_real_variant_from_the_command_line(real_data, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(make_model(SPLICEAI_10K).state_dict(), folder / "model_10000nt_rs10.pt")
    (tmp_path / "one.vcf").write_text("17\t42577190\tENSE00000726280_001\tC\tA\n17\t42425900\tnear_the_start\tA\tT\n")
    done = run_command(tmp_path / "one.vcf", real_data / "hg38_slices", folder, tmp_path / "out.csv")
    assert done.returncode == 0, done.stderr
    assert "1 variants scored by 1 models" in done.stdout
    assert "left out: 1 window below 11,000 nt" in done.stdout
    assert read_rows(tmp_path / "out.csv")[0]["id"] == "ENSE00000726280_001"


def test_the_published_weights_give_the_reference_deltas(real_data, tmp_path):
    weights = real_data / "openspliceai-mane-10000nt"
    if not weights.is_dir():
        pytest.skip(f"no published weights at {weights}: docs/splicevardb.md says where they come from")
    reference = sorted(read_rows(real_data / "mfass" / "openspliceai_deltas.csv"), key=lambda row: -float(row["best_max_abs"]))[:3]
    rows = ["\t".join(row[name] for name in ("chrom", "pos_hg38", "id", "ref", "alt")) for row in reference]
    (tmp_path / "strongest.vcf").write_text("\n".join(rows) + "\n")
    out = tmp_path / "deltas.csv"
    report = write_splice_targets(
        tmp_path / "strongest.vcf", real_data / "hg38_slices", weights, out, device=torch.device("cpu"), cache=tmp_path / "cache"
    )
    assert (report.rows, report.models) == (3, PUBLISHED_MODELS)
    for ours, theirs in zip(read_rows(out), reference, strict=True):
        shared = [name for name in ours if name in theirs and name not in {"chrom", "ref", "alt", "id"}]
        np.testing.assert_allclose([float(ours[name]) for name in shared], [float(theirs[name]) for name in shared], atol=1e-4)


def run_command(variants, fasta, weights, out):
    options = {"--variants": variants, "--fasta": fasta, "--weights": weights, "--out": out, "--device": "cpu"}
    command = [sys.executable, "-m", "bench", "data", "splice-targets", *(str(part) for pair in options.items() for part in pair)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


def test_without_weights_the_command_ends_in_one_line_that_says_where_they_come_from(tmp_path):
    done = run_command(write_vcf(tmp_path, [1_500]), write_genome(tmp_path), tmp_path, tmp_path / "out.csv")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "OpenSpliceAI-MANE-10000nt" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupted_run_goes_on_and_the_file_is_the_same(weights, tmp_path):
    variants, fasta = write_vcf(tmp_path, range(1_400, 1_412)), write_genome(tmp_path)

    def interrupt(done, total, note):
        if (done, note) == (8, "scoring variants"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_targets(variants, fasta, weights, tmp_path / "out.csv", batch=4, progress=interrupt)
    assert not (tmp_path / "out.csv").exists()
    part = next(tmp_path.glob(".out.csv.*.part"))
    part.write_text(part.read_text()[:-9])  # the last line was cut while it was written
    report = write_targets(variants, fasta, weights, tmp_path / "out.csv", batch=4)
    assert (report.rows, report.resumed) == (12, 7)
    write_targets(variants, fasta, weights, tmp_path / "again.csv", batch=4)
    ours, theirs = (read_rows(tmp_path / name) for name in ("out.csv", "again.csv"))
    assert [row["id"] for row in ours] == [row["id"] for row in theirs]
    for name in ("best_max_abs", "d_donor", "minus_d_acceptor", "site_minus"):
        np.testing.assert_allclose([float(row[name]) for row in ours], [float(row[name]) for row in theirs], atol=2e-6)
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(UsageError, match="exists already"):
        write_targets(variants, fasta, weights, tmp_path / "out.csv")


def test_what_cannot_be_scored_is_left_out_and_counted(weights, tmp_path):
    long = "\t".join(["1", "1500", ".", SEQUENCE[1_499], SEQUENCE[1_499] + "C" * 951])
    extra = (f"1\t1600\t.\t{SEQUENCE[1599]}\t<DEL>,*", "1\t1601\t.\tR\tA", "chrUn_KI270742v1\t5\t.\tA\tC", long, *write_vcf(tmp_path, [1_500]).read_text().splitlines()[2:])
    report = write_targets(write_vcf(tmp_path, [20, 1_500], extra), write_genome(tmp_path), weights, tmp_path / "out.csv")
    assert report.rows == 1
    assert report.skipped == {
        "allele without a plain sequence": 3,
        "not on a chromosome": 1,
        "occurs twice": 1,
        "window below 1,080 nt": 1,
        "insertion or deletion longer than 950 nt": 1,
    }
    with pytest.raises(DataError, match=r"holds no variant that can be scored: 1 window below 1,080 nt"):
        write_targets(write_vcf(tmp_path, [20]), tmp_path / "genome.fa", weights, tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        (SEQUENCE[:1_450], r"variants\.vcf, row 3: chr1-1500-\S+ lies beyond the end of its chromosome.*genome\.fa is cut short"),
        (SEQUENCE[1:], r"variants\.vcf, row 3: reference allele of chr1-1500-\S+ does not match the genome"),
    ],
)
def test_a_genome_that_is_cut_short_or_shifted_is_refused(weights, tmp_path, sequence, message):
    variants = write_vcf(tmp_path, [1_500])
    assert sequence[1_499:1_500] != SEQUENCE[1_499]
    with pytest.raises(DataError, match=message):
        write_targets(variants, write_genome(tmp_path, sequence), weights, tmp_path / "out.csv")
    assert not list(tmp_path.glob(".out.csv*"))  # found before the first variant was scored


def test_a_splicevardb_table_gives_the_targets_that_its_reader_takes(weights, tmp_path):
    rows = [TABLE_HEADER]
    for number, kind in enumerate(("Splice-altering", "Normal", "Low-frequency", "Conflicting", "Splice-altering")):
        at = 1_400 + 7 * number
        coordinate = "" if number == 4 else f"1-{at}-{SEQUENCE[at - 1]}-{'A' if SEQUENCE[at - 1] != 'A' else 'C'}"
        rows.append(f"{number}\tx\t{coordinate}\tGENE\tx\tx\t{kind}\tx\tx")
    table, fasta, out = tmp_path / "splicevardb.download.tsv", write_genome(tmp_path), tmp_path / "base_deltas.csv"
    table.write_text("\n".join(rows) + "\n")
    report = write_targets(table, fasta, weights, out)
    assert report.skipped == {"classified Low-frequency": 1, "classified Conflicting": 1, "no hg38 coordinate": 1}
    genome = Genome([GenomeFile(fasta)], tmp_path / "cache")
    documented, corrected = (read_splicevardb(table, genome, recipe, out) for recipe in (TargetRecipe.DOCUMENTED, TargetRecipe.CORRECTED))
    assert documented.label.tolist() == corrected.label.tolist() == [1, 0]
    assert documented.dropped["no base-model score"] == 0
    row = read_rows(out)[0]
    np.testing.assert_allclose(documented.target[0], [float(row[f"dd_{name}"]) for name in ("neither", "acceptor", "donor")], rtol=1e-6)
    side = "minus_" if row["strand"] == "-" else ""
    np.testing.assert_allclose(corrected.target[0], [float(row[f"{side}d_{name}"]) for name in ("donor", "acceptor", "neither")], rtol=1e-6)


def test_a_packed_table_is_read_like_a_plain_one_and_a_damaged_one_is_named(tmp_path):
    table, packed = tmp_path / "table.tsv", tmp_path / "table.tsv.gz"
    table.write_text(f"{TABLE_HEADER}\n1\tx\t22-100-A-C\tGENE\tx\tx\tNormal\tx\tx\n")
    packed.write_bytes(gzip.compress(table.read_bytes()))
    assert read_variant_list(packed).variants == read_variant_list(table).variants
    table.write_bytes(table.read_bytes().replace(b"GENE", b"G\xe9NE"))
    with pytest.raises(DataError, match=r"table\.tsv: is damaged or no text: .*Give it as UTF-8"):
        read_columns(table, ("variant_id", "hg38"), "\t")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chromosome,position\n1,2\n", "is neither a VCF nor a table with a column hg38"),
        ("#CHROM\tPOS\tID\tREF\tALT\n1\t5\tx\n", "row 2: has 3 TAB-separated fields"),
        ("1\t5\tx\tA\tC\n1\tfive\tx\tA\tC\n", "row 2: '1-five-A-C' is not a variant"),
        ("#CHROM\tPOS\tID\tREF\tALT\n", "holds no variant that can be scored"),
    ],
)
def test_a_bad_list_of_variants_is_refused_with_its_row(tmp_path, text, message):
    path = tmp_path / "list.vcf"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_variant_list(Path(path))
