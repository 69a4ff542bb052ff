"""Training cases: throughput and memory of the optimiser step, then the whole recipe, then quality."""

from assay.bench.running.execution import Execution


def test_train(execution: Execution, benchmark):  # type: ignore[no-untyped-def]
    session = execution.open()
    execution.time(benchmark, session.step)
    execution.fit(session)
    execution.evaluate(session)
    assert execution.quality, "a training case must report quality"
