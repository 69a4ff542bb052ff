import pytest

from assay.bench import profiles
from assay.bench.case import Precision, UsageError
from assay.bench.profiles import load_profile, load_profiles, match_gpu


def test_the_known_machine_classes():
    known = set(load_profiles())
    assert {"cpu", "t4", "rtx4090", "rtx5090", "a40", "a100-80gb", "h100", "h200", "m1"} <= known
    assert all(profile.name == name for name, profile in load_profiles().items())


@pytest.mark.parametrize(
    ("gpu", "name"),
    [
        ("Tesla T4", "t4"),
        ("NVIDIA T4", "t4"),
        ("NVIDIA A40", "a40"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb-pcie"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 5090", "rtx5090"),
        ("Apple M1", "m1"),
    ],
)
def test_a_gpu_has_one_profile(gpu, name):
    assert match_gpu(gpu).name == name
    assert [profile.name for profile in load_profiles().values() if profile.fits(gpu)] == [name]


@pytest.mark.parametrize(
    "gpu",
    [
        "NVIDIA A40-48Q",
        "NVIDIA A4000",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 5090 D",
        "NVIDIA A100-SXM4-40GB",
        "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
        "NVIDIA H100 NVL",
        "NVIDIA H200 NVL",
        "NVIDIA GH200 480GB",
        "Tesla T40",
        "Apple M1 Pro",
    ],
)
def test_a_near_miss_has_none(gpu):
    with pytest.raises(UsageError, match="no profile for the GPU") as caught:
        match_gpu(gpu)
    assert repr(gpu) in str(caught.value)
    assert "choose one with --profile (a100-80gb" in str(caught.value)
    assert "a40.toml is an example" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("a40", Precision.BF16, 149.7e12),  # 312 is the A100's
        ("a40", Precision.TF32, 74.8e12),
        ("a100-80gb", Precision.BF16, 312e12),
        ("h100", Precision.BF16, 1979e12 / 2),
        ("h100-pcie", Precision.BF16, 1513e12 / 2),
        ("h200", Precision.TF32, 989e12 / 2),
        ("rtx4090", Precision.FP16, 165.2e12),
        ("rtx5090", Precision.BF16, 209.5e12),
        ("t4", Precision.FP16, 65e12),
    ],
)
def test_peaks_are_dense(name, precision, peak):
    assert load_profile(name).peak_flops[precision].value == peak


def test_what_hardware_cannot_do_has_no_peak():
    assert set(load_profile("t4").peak_flops) == {Precision.FP32, Precision.FP16}  # Turing has neither bfloat16 nor TF32
    assert load_profile("cpu").peak_flops == {}


@pytest.mark.parametrize("profile", load_profiles().values(), ids=lambda profile: profile.name)
def test_every_figure_names_its_document(profile):
    figures = [*profile.peak_flops.values(), *([profile.bandwidth] if profile.bandwidth else [])]
    assert all(any(word in figure.source for word in ("datasheet", "whitepaper", "newsroom")) for figure in figures)
    assert (profile.device == "cuda") == (profile.bandwidth is not None)
    tensor = [profile.peak_flops[p].value for p in (Precision.TF32, Precision.BF16) if p in profile.peak_flops]
    assert not tensor or tensor[1] == pytest.approx(2 * tensor[0], rel=1e-3)  # bf16 runs at twice the rate of TF32


def test_an_unknown_profile_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"unknown profile 'a41'; known: a100-80gb, .*, t4"):
        load_profile("a41")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("title = 'x'\ndevice = 'cuda'", "a profile names a GPU unless its device is the CPU"),
        ("title = 'x'\ndevice = 'cpu'\ncolour = 'red'", "colour: Extra inputs are not permitted"),
        ("title = 'x'\ndevice = 'cpu'\n[peak_flops]\nfp32 = { value = 1e12 }", "peak_flops.fp32.source: Field required"),
        ("title = 'x'\ndevice = 'cpu'\n[peak_flops]\nfp64 = { value = 1e12, source = 'y' }", "peak_flops.fp64"),
        ("title = ", "Invalid value"),
    ],
)
def test_a_broken_file_is_named(tmp_path, monkeypatch, text, fault):
    (tmp_path / "broken.toml").write_text(text)
    monkeypatch.setattr(profiles, "FOLDER", tmp_path)
    load_profiles.cache_clear()
    try:
        with pytest.raises(UsageError) as caught:
            load_profiles()
    finally:
        monkeypatch.undo()
        load_profiles.cache_clear()
    assert str(caught.value).startswith(f"{tmp_path / 'broken.toml'}: ")
    assert fault in str(caught.value)
