"""Sequence features: exact numbers where arithmetic gives them, and ESM-2 through a tiny model of the same class on disk."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from assay.datasets.card import DataError, MissingData
from assay.datasets.protein_features import COLUMNS, ESM2_VARIABLE, Esm2Encoder, KmerPca, extract_features, split_chains

VOCABULARY = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO", ".", "-", "<null_1>", "<mask>"]
HIDDEN = 16
NO_CACHE = Path("/nonexistent")  # k-mers need none


def random_chain(random, length):
    return "".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), length))


def make_table(rows=12, seed=0):
    random = np.random.default_rng(seed)
    return pd.DataFrame({name: [random_chain(random, int(random.integers(8, 30))) for _ in range(rows)] for name in COLUMNS})


@pytest.fixture(scope="module")
def tiny_esm(tmp_path_factory):
    """A folder laid out like the published model, with random weights."""
    from transformers import EsmConfig, EsmModel, EsmTokenizer

    folder = tmp_path_factory.mktemp("esm")
    (folder / "words.txt").write_text("\n".join(VOCABULARY))
    EsmTokenizer(str(folder / "words.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = EsmConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        position_embedding_type="rotary",
        token_dropout=True,
        mask_token_id=32,
        pad_token_id=1,
        max_position_embeddings=1026,
    )
    EsmModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def test_kmers_are_shares_of_a_chain_and_never_span_two():
    counts = KmerPca()._count([("AC:CA", "aax", "")])
    heavy, light, antigen = counts.reshape(3, 420)
    letters = "ACDEFGHIKLMNPQRSTVWY"
    assert heavy[letters.index("A")] == pytest.approx(1 / 2)
    assert heavy[letters.index("C")] == pytest.approx(1 / 2)
    assert heavy[20 + 1] == pytest.approx(1 / 2)  # AC
    assert heavy[20 + 20] == pytest.approx(1 / 2)  # CA
    assert heavy[20 + 21] == 0  # CC would span the two chains
    assert light[0] == pytest.approx(1)  # X is no residue of the twenty
    assert light[20] == pytest.approx(1)
    assert antigen.sum() == 0


def test_few_training_rows_give_zero_columns():
    table = make_table(6)
    features = extract_features("kmer-pca", table, np.arange(4), NO_CACHE)
    assert features.shape == (6, 150)
    assert features.dtype == np.float32
    assert (features[:, 3:] == 0).all()  # 4 centred rows span 3 directions
    assert (features[:, :3].std(axis=0) > 0).all()
    assert (extract_features("kmer-pca", table, np.arange(1), NO_CACHE) == 0).all()


def test_only_training_rows_are_learnt_from():
    table = make_table(20)
    train = np.arange(12)
    changed = table.copy()
    changed.loc[15, "antigen"] = "W" * 40
    before, after = (extract_features("kmer-pca", t, train, NO_CACHE) for t in (table, changed))
    same = np.arange(20) != 15
    assert np.array_equal(before[same], after[same])
    assert not np.allclose(before[15], after[15])
    assert before[train].mean(axis=0) == pytest.approx(np.zeros(150), abs=1e-4)


def test_pooling_is_the_mean_over_residues_of_the_last_layer(tiny_esm):
    from transformers import AutoTokenizer, EsmModel

    model = EsmModel.from_pretrained(tiny_esm, add_pooling_layer=False)
    tokens = AutoTokenizer.from_pretrained(tiny_esm)("ACDWY", return_tensors="pt")
    assert tokens["input_ids"].tolist() == [[0, 5, 23, 13, 22, 19, 2]]
    with torch.inference_mode():
        expected = model(**tokens).last_hidden_state[0, 1:6].mean(0)
    assert Esm2Encoder(tiny_esm).embed(["ACDWY"])[0] == pytest.approx(expected.numpy(), abs=1e-6)


def test_padding_and_order_do_not_change_embeddings(tiny_esm):
    random = np.random.default_rng(1)
    chains = [random_chain(random, n) for n in (3, 50, 7, 120, 50, 1)]
    encoder = Esm2Encoder(tiny_esm)
    together = encoder.embed(chains)
    alone = np.concatenate([encoder.embed([chain]) for chain in chains])
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together[0] - together[1]).max() > 1e-2


def test_rows_pool_chains_by_residues_and_sequences_equally(tiny_esm, tmp_path):
    table = pd.DataFrame({"antibody_heavy": ["ACDEF", "WWW", "KLM"], "antibody_light": ["GHIK", "", "RST"], "antigen": ["LMN:PQRSTV", "Y", "AC"]})
    features = extract_features("esm2-pca", table, np.array([0, 1, 2]), tmp_path, esm2=tiny_esm)
    encoder = Esm2Encoder(tiny_esm)
    vector = dict(zip(chains := ["ACDEF", "GHIK", "LMN", "PQRSTV", "WWW", "Y", "KLM", "RST", "AC"], encoder.embed(chains), strict=True))
    pooled = np.stack(
        [
            (vector["ACDEF"] + vector["GHIK"] + (3 * vector["LMN"] + 6 * vector["PQRSTV"]) / 9) / 3,
            (vector["WWW"] + vector["Y"]) / 2,
            (vector["KLM"] + vector["RST"] + vector["AC"]) / 3,
        ]
    )
    # PCA with all directions kept preserves distances
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(features[a] - features[b]) == pytest.approx(np.linalg.norm(pooled[a] - pooled[b]), rel=1e-4)


@pytest.fixture
def forward_passes(monkeypatch):
    from transformers import EsmModel

    counted = []
    forward = EsmModel.forward

    def count(self, *args, **kwargs):
        counted.append(1)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(EsmModel, "forward", count)
    return counted


def test_cached_embeddings_need_no_forward_pass(tiny_esm, tmp_path, forward_passes, monkeypatch):
    table = make_table(5)
    monkeypatch.setenv(ESM2_VARIABLE, str(tiny_esm))
    first = extract_features("esm2-pca", table, np.arange(4), tmp_path)
    assert forward_passes
    forward_passes.clear()
    assert np.array_equal(extract_features("esm2-pca", table, np.arange(4), tmp_path), first)
    assert forward_passes == []
    table.loc[0, "antigen"] = "ACDEFGHIKL"
    extract_features("esm2-pca", table, np.arange(4), tmp_path)
    assert len(forward_passes) == 1


def test_other_weights_do_not_share_a_cache(tiny_esm, tmp_path, forward_passes):
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    other.mkdir()
    for path in tiny_esm.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    save_file({name: value * 2 for name, value in load_file(tiny_esm / "model.safetensors").items()}, other / "model.safetensors", {"format": "pt"})
    results = [extract_features("esm2-pca", make_table(4), np.arange(4), tmp_path / "cache", esm2=model) for model in (tiny_esm, other)]
    assert not np.allclose(results[0], results[1])
    assert len(list((tmp_path / "cache/esm2").iterdir())) == 2


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: b"", lambda data: data[:200] + bytes([data[200] ^ 0xFF]) + data[201:]])
def test_damaged_cache_is_refused_with_its_name_and_the_remedy(tiny_esm, tmp_path, damage):
    table = make_table(5)
    extract_features("esm2-pca", table, np.arange(4), tmp_path, esm2=tiny_esm)
    (shard,) = tmp_path.rglob("*.parquet")
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(DataError, match=re.escape(str(shard)) + ".*damaged.*Delete it"):
        extract_features("esm2-pca", table, np.arange(4), tmp_path, esm2=tiny_esm)


def test_interrupted_embedding_keeps_what_was_done(tiny_esm, tmp_path, monkeypatch):
    monkeypatch.setattr("assay.datasets.protein_features.SEQUENCES_PER_SHARD", 4)
    table = make_table(5)
    embed = Esm2Encoder.embed
    embedded: list[list[str]] = []
    broken = True

    def embed_then_break(self, chains, advance):
        if broken and embedded:
            raise KeyboardInterrupt
        embedded.append(list(chains))
        return embed(self, chains, advance)

    monkeypatch.setattr(Esm2Encoder, "embed", embed_then_break)
    with pytest.raises(KeyboardInterrupt):
        extract_features("esm2-pca", table, np.arange(4), tmp_path, esm2=tiny_esm)
    broken = False
    extract_features("esm2-pca", table, np.arange(4), tmp_path, esm2=tiny_esm)
    chains = [chain for part in embedded for chain in part]
    assert len(chains) == len(set(chains)) == 15
    assert [p.suffix for p in tmp_path.rglob("*") if p.is_file()] == [".parquet"] * 4


def test_no_network_says_how_to_place_the_model(tmp_path, monkeypatch):
    monkeypatch.delenv(ESM2_VARIABLE, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingData, match=r"cannot be loaded.*hf download facebook/esm2_t33_650M_UR50D --revision 08e4846e.*ASSAY_ESM2=DIR.*kmer-pca"):
        extract_features("esm2-pca", make_table(3), np.arange(3), tmp_path)


def test_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(MissingData, match=r"no ESM-2 model here.*config\.json, vocab\.txt"):
        extract_features("esm2-pca", make_table(3), np.arange(3), tmp_path, esm2=tmp_path)


def test_pickled_weights_are_not_loaded(tiny_esm, tmp_path):
    for path in tiny_esm.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save({"anything": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(MissingData, match=r"cannot be loaded.*model\.safetensors"):
        Esm2Encoder(tmp_path)


def test_weights_of_another_model_are_refused(tiny_esm, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in tiny_esm.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    kept = {name: value for name, value in load_file(tiny_esm / "model.safetensors").items() if "layer.1." not in name}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"\d+ weights of ESM-2 are missing, e\.g\. encoder\.layer\.1"):
        Esm2Encoder(tmp_path)


def test_tokeniser_of_another_model_is_refused(tiny_esm, tmp_path):
    for path in tiny_esm.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "vocab.txt").write_text("\n".join(word for word in VOCABULARY if word != "W"))
    with pytest.raises(DataError, match="does not give one token a residue"):
        Esm2Encoder(tmp_path).embed(["AWWA"])


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("antigen", "", "row 1: antigen is empty"),
        ("antibody_heavy", None, "row 1: antibody_heavy is empty"),
        ("antigen", "AC*D", r"row 1: antigen has letters that no residue has: 'AC\*D'"),
    ],
)
def test_bad_sequences_name_row_and_column(column, value, problem):
    table = make_table(3)
    table.loc[1, column] = value
    with pytest.raises(DataError, match=problem):
        extract_features("kmer-pca", table, np.arange(3), NO_CACHE)


def test_missing_column_and_empty_training_split_are_named():
    with pytest.raises(DataError, match="no column antigen"):
        extract_features("kmer-pca", make_table(3).drop(columns="antigen"), np.arange(3), NO_CACHE)
    with pytest.raises(DataError, match="training split: it has no rows"):
        extract_features("kmer-pca", make_table(3), np.arange(0), NO_CACHE)


def test_chains_are_split_and_upper_case():
    assert split_chains("ac::De:") == ["AC", "DE"]


def test_random_split_of_real_pairs_leaks_and_complexes_held_out_do_not(real_data):
    from scipy.stats import spearmanr
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold, KFold

    table = pd.read_csv(real_data / "abag_mini/abag_skempi_real.csv")
    truth = table["pKd"].to_numpy()

    def score(folds):
        predicted = np.zeros(len(truth))
        for train, test in folds:
            features = extract_features("kmer-pca", table, train, NO_CACHE)
            predicted[test] = Ridge(alpha=1000).fit(features[train], truth[train]).predict(features[test])
        return spearmanr(predicted, truth).statistic, np.sqrt(np.mean((predicted - truth) ** 2))

    rho, rmse = score(KFold(3, shuffle=True, random_state=0).split(truth))
    assert rho == pytest.approx(0.695, abs=0.1)
    assert rmse == pytest.approx(1.152, abs=0.1)
    rho_held_out, rmse_held_out = score(GroupKFold(3).split(truth, groups=table["complex"]))
    assert rho_held_out < rho - 0.2
    assert rmse_held_out > rmse + 0.2
