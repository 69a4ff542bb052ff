"""From the host to the device without waiting for it: a GPU works on while the host prepares what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def send(values: Tensor, device: torch.device) -> Tensor:
    """Values in the host's memory -> the same on the device. A GPU fetches them by itself, from pinned memory: any other copy would wait for it."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True, slots=True)
class Rows:
    """Row numbers of a batch, int64 [b], both in the host's memory and on the device."""

    host: Tensor
    device: Tensor

    def __len__(self) -> int:
        return len(self.host)

    def take(self, column: Tensor) -> Tensor:
        """Its rows [b, ...], gathered where the column lies."""
        return column.index_select(0, self.host if column.device.type == "cpu" else self.device)


def send_rows(batches: Sequence[Tensor], device: torch.device) -> list[Rows]:
    """An epoch's batches of row numbers, in one copy: a step then costs none."""
    if device.type == "cpu":
        return [Rows(rows, rows) for rows in batches]
    sent = torch.split(send(torch.cat(list(batches)), device), [len(rows) for rows in batches])
    return [Rows(host, there) for host, there in zip(batches, sent, strict=True)]
