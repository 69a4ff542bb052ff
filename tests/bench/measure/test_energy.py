import pytest

from assay.bench.measure.board import SampledWindow
from assay.bench.measure.energy import measure_energy

WINDOW = SampledWindow(seconds=6.0, energy_start_mj=5_000, energy_end_mj=1_205_000)


def test_energy_is_the_difference_of_the_counter():
    energy = measure_energy(WINDOW, samples=4800)
    assert (energy["energy"].value, energy["energy"].unit) == (1200.0, "J")
    assert energy["energy_per_1000_samples"].value == 250.0
    assert energy["energy"].how == "difference of the board's energy counter over 6.0 s"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seconds": 4.99}, "window of 5.0 s: the energy counter takes at least 5 s"),
        ({"seconds": 2.0}, "window of 2.0 s: the energy counter takes at least 5 s"),
        ({"energy_end_mj": None, "energy_reason": "NVML: Not Supported (error 3)"}, "NVML: Not Supported (error 3)"),
        ({"energy_end_mj": 4_999}, "the energy counter went from 5000 to 4999 mJ: it stands still or was reset"),
        ({"energy_end_mj": 5_000}, "the energy counter went from 5000 to 5000 mJ: it stands still or was reset"),
        ({"lost": "the NVML sampler died of SIGKILL"}, "the NVML sampler died of SIGKILL"),
    ],
)
def test_what_cannot_be_had_has_a_reason(change, reason):
    energy = measure_energy(WINDOW.model_copy(update=change), samples=100)
    assert [quantity.reason for quantity in energy.values()] == [reason, reason]


def test_no_gpu_no_energy():
    assert {quantity.reason for quantity in measure_energy("the case ran on the CPU", samples=1).values()} == {"the case ran on the CPU"}


def test_no_samples_no_energy_per_sample():
    energy = measure_energy(WINDOW, samples=0)
    assert energy["energy"].value == 1200.0
    assert energy["energy_per_1000_samples"].reason == "no samples in the window"
