"""Evaluation cases: inference throughput and memory, and quality of the weights that the training case left."""

from assay.bench.case import Quantity
from assay.bench.registry import get_workload
from assay.bench.running.execution import Execution


def test_eval(execution: Execution, benchmark):  # type: ignore[no-untyped-def]
    session = execution.open()
    why_not = execution.load_weights(session)  # first: weights of another training end the case
    execution.time(benchmark, session.infer)
    if why_not is None:
        execution.evaluate(session)
    else:
        execution.quality[get_workload(execution.case.workload).target.metric] = Quantity.missing("", why_not)
