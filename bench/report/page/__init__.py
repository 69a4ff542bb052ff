"""The one HTML page: every record as a sortable row, plots, claims, and the provenance of each record. Self-contained."""

from assay.bench.report.page.assembly import PAGE_BYTES, render_page
from assay.bench.report.page.history import Passage, read_history

__all__ = ["PAGE_BYTES", "Passage", "read_history", "render_page"]
