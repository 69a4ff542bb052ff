"""images.toml in a results folder: which image made the records there. Another image under the same tag would make others, and is refused until told."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.bench.case import UsageError
from assay.bench.records.documents import write_whole
from assay.bench.running.containers import Image

DIGESTS = "images.toml"
EXPLANATION = "# Digest of each image that made records here; another one is refused until told --allow-new-image."


def read_digests(results: Path) -> dict[str, str]:
    """Digest by tag; empty where no image has made records yet. Raises UsageError for a file that is not as it was written."""
    path = results / DIGESTS
    try:
        known = tomllib.loads(path.read_text())["images"]
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise UsageError(f"{path} cannot be read ({error}): it says which image made the records there; correct it, or remove it to begin anew") from None
    if not isinstance(known, dict) or not all(isinstance(digest, str) for digest in known.values()):
        raise UsageError(f"{path} holds something else than digests under [images]; correct it, or remove it to begin anew")
    return known


def check_digest(image: Image, known: Mapping[str, str], results: Path) -> None:
    """Raises UsageError for an image other than the one that made records in this results folder."""
    if known.get(image.tag, image.digest) != image.digest:
        raise UsageError(
            f"{image.tag} is {image.digest}, but records in {results} were made with {known[image.tag]}: they would not be comparable. "
            f"Go back to that image, or take this one with --allow-new-image"
        )


def keep_digests(images: Sequence[Image], results: Path) -> dict[str, str]:
    """Adds these images to the file, which at no moment is half a file. Returns what was kept, in words, by tag; nothing for one that was known."""
    path, known = results / DIGESTS, read_digests(results)
    new = {image.tag: image.digest for image in images if known.get(image.tag) != image.digest}
    if new:
        lines = [f'"{tag}" = "{digest}"' for tag, digest in sorted((known | new).items())]
        try:
            write_whole(path, "\n".join([EXPLANATION, "[images]", *lines, ""]))
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}; free space or choose another folder with --out DIR") from None
    return {tag: f"{tag} is {digest}; kept in {path}" for tag, digest in new.items()}
