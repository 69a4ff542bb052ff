import math

import torch
from torch import nn

from assay.models.audiogram.memory import DOCUMENTED_BYTES, count_graph_bytes, report_retention


def test_saved_bytes_by_hand():
    layer, x = nn.Linear(8, 4, bias=False), torch.randn(3, 8)
    # exp saves its result [3, 4]; the product saves its weight and its input, which are there anyway
    assert count_graph_bytes(lambda: layer(x).exp(), [layer.weight, x]) == 3 * 4 * 4
    assert count_graph_bytes(lambda: layer(x).exp().exp(), [layer.weight, x]) == 2 * 3 * 4 * 4
    with torch.no_grad():
        assert count_graph_bytes(lambda: layer(x).exp(), []) == 0


def test_the_documented_size_is_an_extrapolation_and_says_so():
    found = report_retention(4_000_000, 256, detached=False)
    assert found["steps_to_documented_oom"].value == math.ceil(DOCUMENTED_BYTES / 4_000_000) == 7_840
    assert found["steps_to_documented_oom"].how.startswith("extrapolation: 3.136e+10 bytes")
    assert "256 mice" in found["graph_bytes_per_step"].how
    assert report_retention(1, 1, detached=True)["steps_to_documented_oom"].reason == "the history is detached: no step's graph outlives it"
