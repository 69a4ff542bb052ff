"""What tests of every room share: where real data lies."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def real_data() -> Path:
    """Folder of real public data beside the checkout; tests that need it skip, visibly, without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: fetch it with `python -m bench data fetch` and link it there")
    return folder
