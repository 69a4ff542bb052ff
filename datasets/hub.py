"""The one door to the transformers library, which could otherwise take our folder of data readers for Hugging Face's `datasets`.

transformers asks only whether something named `datasets` can be found. From the checkout's root our folder can, unless theirs is installed,
which Python then prefers; transformers' Trainer would fail on `datasets.Dataset`, which a folder has not.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any


def import_transformers() -> Any:
    """The transformers module. Import it through here only: what transformers once believed of `datasets` stays in its caches."""
    found = find_spec("datasets")
    if found is not None and found.origin is None:  # a folder, no package: as if nothing of that name were there, for everybody who asks
        sys.modules["datasets"] = None  # type: ignore[assignment]
    import transformers

    return transformers
