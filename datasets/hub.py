"""The one door to the transformers library, which would otherwise take this package for Hugging Face's `datasets`.

transformers asks only whether a package named `datasets` can be found, not whose it is. Its Trainer then imports ours and fails on
`datasets.Dataset`. Nothing here needs Hugging Face's package, so transformers is told, once per process, that it is absent.
"""

from __future__ import annotations

from typing import Any


def import_transformers() -> Any:
    """The transformers module. Import it through here only: what transformers once believed of `datasets` stays in its caches."""
    import transformers
    from transformers.utils import import_utils

    probe, find = import_utils.is_datasets_available, import_utils._is_package_available
    if not hasattr(probe, "cache_clear"):  # before transformers 5 a constant, decided by the installed distributions, of which ours is none
        return transformers
    probe.cache_clear()
    import_utils._is_package_available = lambda *_args, **_kwargs: (False, "N/A")
    try:
        probe()  # its answer is cached for the life of the process, for every module that holds a reference to it
    finally:
        import_utils._is_package_available = find
    return transformers
