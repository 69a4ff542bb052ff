"""What pages call the data of a record, so that two data sets of one name are told apart wherever they stand side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from assay.bench.formatting.markdown import clean_text
from assay.bench.records.record import Record


class Data(NamedTuple):
    """What a case read, or was about to read."""

    synthetic: bool
    name: str
    sha256: str

    def spell(self, *, ambiguous: bool) -> str:
        """The name; where other data of the same table bear it too, with the start of the hash. Ranks never cross from one to the other."""
        return clean_text(self.name, 60) + (f" {self.sha256[:6]}" if ambiguous else "") + (" (synthetic twin)" if self.synthetic else "")


def identify_data(record: Record, twins: frozenset[str]) -> Data | None:
    """None for a case that failed before it knew. Whether data that it never read are a twin is known from the records of others: `twins`
    holds the hashes of those."""
    if record.dataset is not None:
        return Data(record.synthetic, record.dataset.name, record.dataset.sha256)
    key = record.comparability
    return None if key is None else Data(key.dataset_sha256 in twins, key.dataset, key.dataset_sha256)


def name_data(rows: Iterable[tuple[str, Record]], older: Iterable[tuple[str, Record]]) -> list[str]:
    """Names for the rows of the leaderboard, each (family, record), as they stand there, then for older records: of those, data that the
    rows do not know by that hash have it in their name. Empty for a record that does not know its data."""
    placed = [(family, identify_data(record, frozenset())) for family, record in rows]
    hashes: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for family, data in placed:
        if data:
            hashes[family, data.name].add(data.sha256)
    names: list[str] = []
    for family, data in (*placed, *((family, identify_data(record, frozenset())) for family, record in older)):
        ambiguous = data is not None and bool(hashes[family, data.name] - {data.sha256})
        names.append(data._replace(synthetic=False).spell(ambiguous=ambiguous) if data else "")
    return names
