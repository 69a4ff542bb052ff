"""The README's table of speeds, from the documents in results/peers: `python benchmarks/peer_table.py --write`.

Make those documents on a quiet machine with `python benchmarks/peer_X.py --json results/peers/X.json`. Without --write the table is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "results" / "peers"
README = ROOT / "README.md"
BEGIN, END = "<!-- peers: written by benchmarks/peer_table.py -->", "<!-- end of peers -->"
PEER = "peer"
HEADER = "| work | machine | lane | samples/s | the peer's | times the peer | aim | loss against the peer's | memory | the peer's | MFU |"


def render_table(folder: Path) -> str:
    """One row a lane that is not the peer's, in the order of the files' names; a sentence where nothing has been measured."""
    documents = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    if not documents:
        return "No measurement is committed."
    rows = [row for document in documents for row in render_rows(document)]
    taken = sorted({document["taken"] for document in documents})
    how = "ratios are medians over rounds with 95 % intervals; memory is what a lane takes beyond data and networks made beforehand"
    note = f"Taken {' and '.join(taken)}; {how}."
    return "\n".join([HEADER, "|---" * HEADER.count(" | ") + "|---|", *rows, "", note])


def render_rows(document: Mapping[str, Any]) -> list[str]:
    """The lanes of one document beside their peer."""
    options = document["options"]
    threads = f", {options['threads']} thread{'s' if options['threads'] > 1 else ''}" if options["device"] == "cpu" else ""
    peers = {result["workload"]: result for result in document["results"] if result["lane"] == PEER}
    return [_render_row(f"{document['device']}{threads}", result, peers[result["workload"]]) for result in document["results"] if result["lane"] != PEER]


def _render_row(machine: str, result: Mapping[str, Any], peer: Mapping[str, Any]) -> str:
    mfu = result["mfu"]["value"]
    cells = [
        result["workload"],
        machine,
        f"{result['lane']} {result['precision']}",
        f"{_round(result['samples_per_s']['value'])} {result['samples_per_s']['unit']}",
        f"{_round(peer['samples_per_s']['value'])}",
        _show_ratio(result["speed_ratio"]),
        "" if result["aim"] is None else f"{result['aim']:.3g}: {'met' if result['aim_met'] else 'missed'}",
        _show_ratio(result["loss_ratio"]),
        _show_memory(result["peak_memory"]),
        _show_memory(peer["peak_memory"]),
        "" if mfu is None else f"{mfu:.1%}",
    ]
    return "| " + " | ".join(cells) + " |"


def _show_memory(peak: Mapping[str, Any]) -> str:
    return "" if peak["value"] is None else f"{peak['value'] / 1e6:,.0f} MB"


def _round(speed: float) -> str:
    """Four digits, without an exponent."""
    return f"{float(f'{speed:.4g}'):,.10g}"


def _show_ratio(ratio: Mapping[str, Any]) -> str:
    if ratio["value"] is None:
        return str(ratio["reason"])
    return f"{ratio['value']:.2f}" + ("" if ratio["low"] is None else f" [{ratio['low']:.2f}, {ratio['high']:.2f}]")


def replace_table(text: str, table: str) -> str:
    """The README with the table between its two marks. Raises ValueError where they are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no place for the table: expected {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Prints the table, or writes it into the README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write it into README.md instead of printing it")
    table = render_table(PEERS)
    if parser.parse_args(arguments).write:
        README.write_text(replace_table(README.read_text(), table))
    else:
        print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
