"""TissueBERT's training killed by the operating system while it runs, and resumed from the file that it left."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from assay.bench.case import Case, Division, Phase, Precision, Preset
from assay.models.tissuebert import tissuebert
from assay.models.tissuebert.bert import BertShape, TissueBert
from assay.models.workload import Resources
from tests.conftest import ROOT

STEPS = 80  # two epochs of 320 reads, 8 a batch

pytestmark = pytest.mark.usefixtures("one_thread")


def open_session(cache):
    """The open division's own network at a size that a test can afford, dropout included, on the twin's reads of 150 bases."""
    recipe = replace(tissuebert.recipes["batch8"], shape=BertShape(hidden=32, layers=2, heads=2, intermediate=64))
    case = Case("tissuebert", "batch8", Phase.TRAIN, Preset.STANDARD, Division.OPEN, Precision.BF16)
    return replace(tissuebert, recipes={"batch8": recipe}).open(case, Resources(device=torch.device("cpu"), data=None, batch=None, seed=1, cache=cache))


# saves after every batch, so that the kill may fall into the writing of a file; waits for ever before it would be done
KILLED = """
import sys
from pathlib import Path
import torch
from tests.models.tissuebert.test_tissuebert_checkpoint import STEPS, open_session
torch.set_num_threads(1)
path = Path(sys.argv[1])
session = open_session(path.parent)
def progress(done, total, note):
    assert total == STEPS
    session.save_checkpoint(path)
    print(done, flush=True)
    if done == STEPS - 5:
        sys.stdin.read()
session.fit(progress)
"""


def test_a_killed_tissuebert_training_resumes_to_the_weights_of_an_uninterrupted_one(tmp_path):
    path = tmp_path / "c.safetensors"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line == "50\n" for line in process.stdout)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    with safe_open(path, "pt") as file:
        place = json.loads(file.metadata()["training"])["place"]
        done = sum(name.startswith("loss/") for name in file.keys())  # noqa: SIM118  # it is no mapping
    assert place["epoch"] == 1
    assert 10 <= done <= 35  # amid the second epoch of 40 batches
    whole, resumed = open_session(tmp_path), open_session(tmp_path)
    expected = whole.fit(lambda *_: None)
    resumed.load_checkpoint(path)
    trained = []
    history = resumed.fit(lambda step, *_: trained.append(step))
    assert trained == list(range(41 + done, STEPS + 1))
    assert type(resumed.model) is TissueBert
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(weights, resumed.model.state_dict()[name]), name
    assert history.train_loss == expected.train_loss
