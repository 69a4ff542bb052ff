"""Imported whenever Python starts in an image: each user has a folder of their own in /cache, which outlives containers and is shared by all.

What one user wrote there another could not replace, and should not have to trust: Triton and Python run what they find in a cache.
"""

import contextlib
import os
import sys

SHARED = "/cache"
NAMES = ("HOME", "XDG_CACHE_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")  # as the images set them


def separate(key: str) -> None:
    """Moves every cache that lies in /cache into the user's own folder there; the key names the sources whose byte code is kept."""
    own = f"{SHARED}/{os.getuid()}"
    for name in NAMES:
        place = os.environ.get(name, "")
        inherited = place == own or place.startswith(f"{own}/")  # a child of a Python that has done this
        if not inherited and (place == SHARED or place.startswith(f"{SHARED}/")):
            os.environ[name] = own + place.removeprefix(SHARED)
    sys.pycache_prefix = f"{own}/pycache/{key}"
    if os.environ.get("HOME") != own:  # not an image's container, but its build, which must leave nothing there
        return
    with contextlib.suppress(OSError):  # nothing is mounted there, or nothing that may be written
        os.makedirs(own, mode=0o700, exist_ok=True)  # noqa: PTH103  # pathlib would cost every start some milliseconds
