import pytest
import torch
from torch import nn

from assay.bench.measure.traffic import TrafficCounter

KB = 1000  # elements; four bytes each


def count(step):
    with TrafficCounter() as counter:
        step()
    return counter.total / 4 / KB, counter.least / 4 / KB


def test_an_operation_reads_its_arguments_and_writes_its_result():
    a, b = torch.ones(KB), torch.ones(KB)
    assert count(lambda: a + b) == (3, 2)
    assert count(lambda: a.add_(b)) == (3, 3)  # reads both, writes one: all of it older than the step


def test_what_is_written_without_being_read():
    a, b = torch.ones(KB), torch.ones(KB)
    assert count(a.zero_) == (1, 1)
    assert count(lambda: a.copy_(b)) == (2, 2)
    assert count(lambda: torch.empty(KB)) == (0, 0)
    assert count(lambda: torch.zeros(KB)) == (1, 0)


def test_what_the_step_makes_need_not_leave_the_chip():
    a = torch.ones(KB)
    assert count(lambda: torch.exp((a + 1) * 2)) == (6, 1)


def test_views_move_nothing_and_are_read_once():
    a = torch.ones(4, KB)
    assert count(lambda: a.t()[:, 1:3]) == (0, 0)
    assert count(lambda: (a[0] + a[1], a[0] + 1)) == (5, 2)
    whole = torch.ones(KB)
    assert count(lambda: (whole + 1, whole[: KB // 2] + 1)) == (3, 1)  # overlapping views: never more than their storage


def test_an_expanded_dimension_is_read_once():
    row = torch.ones(1, KB)
    assert count(lambda: torch.add(row.expand(4, KB), 1)) == (5, 1)


@pytest.mark.parametrize("look_up", [nn.functional.embedding, lambda index, table: table[index]])
def test_a_look_up_reads_the_rows_that_it_gives_back(look_up):
    table, index = torch.ones(KB, KB), torch.zeros(2, dtype=torch.int32)
    total, least = count(lambda: look_up(index, table))
    assert total == pytest.approx(4 + 2 / KB)
    assert least == pytest.approx(2 + 2 / KB)


def test_a_training_step_must_move_weights_moments_and_the_batch():
    """AdamW reads and writes the weight and its two moments; the gradient is the step's own."""
    layer, batch = nn.Linear(KB, 1, bias=False), torch.ones(2, KB)
    optimizer = torch.optim.AdamW(layer.parameters(), foreach=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        layer(batch).sum().backward()
        optimizer.step()

    step()
    total, least = count(step)
    assert least == pytest.approx(2 + 6, abs=0.02)  # the batch, and six times the weight; scalars beside them
    assert total > least


def test_inference_mode_and_lists_of_tensors_are_seen():
    layer, batch = nn.Linear(KB, 1, bias=False), torch.ones(2, KB)

    def infer():
        with torch.inference_mode():
            layer(batch)

    assert count(infer) == (pytest.approx(3, abs=0.01), pytest.approx(3, abs=0.01))
    many = [torch.ones(KB) for _ in range(3)]
    assert count(lambda: torch._foreach_add_(many, 1.0)) == (6, 6)


def test_a_step_without_operations_has_no_count():
    with TrafficCounter() as counter:
        pass
    assert {q.reason for q in counter.quantities().values()} == {"torch dispatched no operation of the step"}
