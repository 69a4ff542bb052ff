"""The red team's list: how a candidate may try to look faster than it is, and what becomes of it. docs/gate.md shows it.

`test` names a test of tests/bench/gate/test_red_team.py, which is kept in step with this list; what has none is not caught, and says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from markupsafe import Markup

from assay.bench.formatting.markdown import format_table


class Mechanism(StrEnum):
    """What is tampered with."""

    TIMER = "timer"
    TURN = "the other side's turn"
    CACHE = "cached outputs"
    SAMPLES = "fewer samples"
    KEY = "key"
    FILES = "verdict and other files"
    IMPORTS = "import hooks"
    HARNESS = "harness in its tree"
    VARIABLES = "environment"
    COLLECTOR = "garbage collector"
    CORES = "core pinning"
    FREQUENCY = "clock frequency"
    QUEUE = "time waited for a core"


@dataclass(frozen=True, slots=True)
class Cheat:
    """One of them. outcome: what happens, or why nothing does."""

    mechanism: Mechanism
    what: str
    outcome: str
    test: str | None = None


M = Mechanism
OUT_OF_TURN = "refused: computed after its answer, in the other side's turn"
NO_ANSWER = "refused: no answer of the protocol"
REFERENCES_OWN = "never runs: bench/ is the reference's"
NOT_ON_PATH = "never imported: only bench/, models/ and datasets/ are on the path"
TREATED = "refused: the system did not treat the workers alike"
MORE_CORES = "refused: took more cores than the case has threads"
TOO_MANY = "refused: more samples than the declared batch allows"
IN_MEMORY = "the harness and the candidate share a process. A round that does less work than it says, but some, is a round like any other"
SAME_USER = "a folder's or a ref's workers have the gate's own rights. Compare images where you do not know the author"
REAL = "no cheat: whoever runs this code has that speed too. What is not collected shows in memory, which is gated"

CHEATS = (
    Cheat(M.TIMER, "answers with a duration of its own", NO_ANSWER, "test_a_duration_of_its_own"),
    Cheat(M.TIMER, "answers a round, then works", OUT_OF_TURN, "test_work_out_of_turn"),
    Cheat(M.TIMER, "answers the next round before it is asked", "refused: spoke before it was asked", "test_answers_before_they_are_asked_for"),
    Cheat(M.TIMER, "patches `time` or `torch` so that clocks in the worker run slowly", "no effect: no clock of the worker's is read", "test_patched_clocks"),
    Cheat(
        M.TIMER, "on a GPU, makes `torch.cuda.synchronize` do nothing",
        "the device's queue is not in the kernel's accounts: the work goes on in the other side's turn, which slows both",
    ),
    Cheat(M.TURN, "works between its rounds in a thread", OUT_OF_TURN, "test_work_out_of_turn"),
    Cheat(M.TURN, "works between its rounds in a child, also one in a session of its own whose parent has ended", OUT_OF_TURN, "test_work_out_of_turn"),
    Cheat(M.TURN, "works between its warm-up and its first round", OUT_OF_TURN, "test_work_out_of_turn"),
    Cheat(M.TURN, "works a little in every rest, as if the kernel booked by ticks", OUT_OF_TURN, "test_a_little_work_in_every_rest"),
    Cheat(M.TURN, "has work done by a process that is not below it (cron, a service, a container engine, or a daemon after prctl)", SAME_USER),
    Cheat(M.CACHE, "`step` returns at once", "refused: took its steps and changed no weight", "test_steps_that_train_nothing"),
    Cheat(M.CACHE, "`infer` returns what it has returned before", "a round says nothing of its predictions, and an eval case has no training to compare"),
    Cheat(M.CACHE, "`step` trains on one batch that it keeps, `fit` on all data", IN_MEMORY),
    Cheat(M.CACHE, "`fit` loads weights that came with the candidate", "the quality is as good as the reference's. Time to quality says improved"),
    Cheat(M.CACHE, "`evaluate` returns metrics that it makes up", "the metrics are computed by the candidate's models/; a reader of the change sees that"),
    Cheat(M.SAMPLES, "says twice as many samples", TOO_MANY, "test_more_samples_than_the_batch_has"),
    Cheat(M.SAMPLES, "says one sample more in each step", TOO_MANY, "test_more_samples_than_the_batch_has"),
    Cheat(M.SAMPLES, "declares a larger batch", "not comparable: names the recipe's batch", "test_a_larger_batch_of_a_closed_case"),
    Cheat(M.SAMPLES, "declares a larger batch in the open division, and leaves some of it out", IN_MEMORY),
    Cheat(M.SAMPLES, "`step` trains on half of its batch and says all of it", IN_MEMORY),
    Cheat(M.KEY, "another data set, or another hash of it", "not comparable: names what differs", "test_another_key"),
    Cheat(M.KEY, "another batch or number of threads", "not comparable: names what differs", "test_another_key"),
    Cheat(M.KEY, "another seed or case than it was asked for", "refused: was asked for one and opened another", "test_another_key"),
    Cheat(M.FILES, "writes verdict files", "overwritten by the gate's own", "test_a_verdict_file_that_is_there_already"),
    Cheat(M.FILES, "changes files of the reference, or the harness", "refused: files changed meanwhile", "test_files_that_change_meanwhile"),
    Cheat(M.FILES, "leaves a process behind that writes later", "ended with the worker, as all that it has started", "test_nothing_of_a_worker_stays_behind"),
    Cheat(M.FILES, "changes files elsewhere (byte code, site-packages, the history), or the gate's memory", SAME_USER),
    Cheat(M.IMPORTS, "a `torch.py` or the like beside its models/", NOT_ON_PATH, "test_modules_beside_the_models"),
    Cheat(M.IMPORTS, "a sitecustomize.py or usercustomize.py", NOT_ON_PATH, "test_modules_beside_the_models"),
    Cheat(M.IMPORTS, "a conftest.py or pytest.ini", "never read: a worker is no test", "test_modules_beside_the_models"),
    Cheat(M.IMPORTS, "models/ replace the harness's functions in memory", IN_MEMORY),
    Cheat(M.HARNESS, "bench/ with a clock that takes fewer steps", REFERENCES_OWN, "test_an_altered_harness"),
    Cheat(M.HARNESS, "bench/ with profiles of another batch or fewer checks", REFERENCES_OWN, "test_an_altered_harness"),
    Cheat(M.HARNESS, "models/ that work with its own bench/ alone", "not comparable without --own-harness", "test_models_that_want_their_own_harness"),
    Cheat(M.HARNESS, "a workflow in the pull request that runs another gate", "GitHub runs it. docs/gate-ci.md says what a repository must set against that"),
    Cheat(M.VARIABLES, "PYTHONPATH and the other variables of the interpreter", "not handed on to workers", "test_variables_of_the_interpreter"),
    Cheat(M.VARIABLES, "an interpreter of its own in .venv", "not used, unless --across-environments trusts it", "test_an_interpreter_of_its_own"),
    Cheat(M.VARIABLES, "OMP_WAIT_POLICY and the like: threads spin in the other side's turn", "not handed on to workers", "test_threads_that_keep_their_cores"),
    Cheat(M.VARIABLES, "more threads than the case has", MORE_CORES, "test_more_cores_than_threads"),
    Cheat(M.VARIABLES, "switches of a library, e.g. TF32 in an fp32 case", "quality after training is compared; within its margin, such a switch goes unseen"),
    Cheat(M.COLLECTOR, "`gc.disable()`", REAL),
    Cheat(M.COLLECTOR, "`gc.freeze()`", REAL),
    Cheat(M.COLLECTOR, "a threshold that is never reached", REAL),
    Cheat(M.CORES, "pins itself to a core", TREATED, "test_workers_that_the_system_treats_differently"),
    Cheat(M.CORES, "pins the reference's worker to a core", TREATED, "test_workers_that_the_system_treats_differently"),
    Cheat(M.CORES, "gives the reference's worker a lower priority", TREATED, "test_workers_that_the_system_treats_differently"),
    Cheat(M.CORES, "the same during a round only", "the gate looks when a round is over"),
    Cheat(M.FREQUENCY, "heats the chip in the other side's turn", OUT_OF_TURN, "test_work_out_of_turn"),
    Cheat(M.FREQUENCY, "holds a GPU's clocks down", "invalid machine: the doctor looks before and after", "test_a_gpu_that_is_held_down"),
    Cheat(M.FREQUENCY, "takes more cores to bring the clock down for the next round", MORE_CORES, "test_more_cores_than_threads"),
    Cheat(M.FREQUENCY, "heats the chip at the end of its own round", "costs itself as much; the coin decides who is next"),
    Cheat(M.QUEUE, "says that it waited", NO_ANSWER, "test_a_duration_of_its_own"),
    Cheat(M.QUEUE, "lets a child or a daemon of its own compete for its core", "nothing is subtracted", "test_a_worker_that_waits_for_itself"),
    Cheat(M.QUEUE, "says that it lives during a round, so that the gate wakes and waits", "refused: another answer was due", "test_signs_of_life_in_a_round"),
    Cheat(M.QUEUE, "sends its answer in pieces, so that the gate wakes and waits", "only the wait for the last piece counts", "test_an_answer_in_pieces"),
)


def tabulate_cheats(*, caught: bool) -> str:
    """Markdown: those that have a test, or those that have none."""
    cheats = [cheat for cheat in CHEATS if (cheat.test is not None) == caught]
    columns = ("what is tampered with", "how", "what happens", "test") if caught else ("what is tampered with", "how", "why it is not caught")
    rows = [tuple(map(Markup, (c.mechanism, c.what, c.outcome, *([f"`{c.test}`"] if c.test else [])))) for c in cheats]
    return format_table(columns, rows)
