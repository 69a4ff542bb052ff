"""Attention cases: throughput and memory of one layer's attention and its distance from the reference, or a proof without any timing."""

from assay.bench.running.execution import Execution


def test_attention(execution: Execution, benchmark):  # type: ignore[no-untyped-def]
    session = execution.open()
    if session.unit:
        execution.time(benchmark, session.step)
        execution.evaluate(session)
    else:
        benchmark.pedantic(execution.evaluate, args=(session,), rounds=1)  # nothing to time: the proof is the round
    assert execution.quality, "an attention case must report quality"
