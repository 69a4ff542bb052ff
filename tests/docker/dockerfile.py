"""Which images a Dockerfile takes that may be others tomorrow."""

import re

STAGE = re.compile(r"FROM\s+(?:--platform=\S+\s+)?([^\s-]\S*)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
SWITCH = "${WITH_FLASH_ATTN}"  # chooses between stages; it must find one for either value
DIGEST = re.compile(r"\S+@sha256:[0-9a-f]{64}")


def find_moving_origins(text: str) -> list[str]:
    """Instructions whose image is neither a stage above nor pinned by digest, and every FROM that cannot be read. Empty for a Dockerfile that may be built."""
    stages, moving = {"scratch"}, []
    defaults: dict[str, str] = {}
    for line in _join_lines(text):
        word = line.split()[0].upper()
        if word == "ARG" and not stages - {"scratch"}:  # FROM sees only what stands above the first one
            name, _, value = line.split()[1].partition("=")
            defaults[name] = value
        elif word == "FROM":
            read = STAGE.fullmatch(line)
            if read is None or not _is_fixed(read[1], stages, defaults):
                moving.append(line)
            stages |= {read[2].lower()} if read and read[2] else set()
        else:
            origins = re.findall(r"\bfrom=([^\s,]*)", line, re.IGNORECASE)  # COPY --from= and RUN --mount=...,from=
            moving += [line for origin in origins if not _is_fixed(origin, stages, {})]
    return moving


def _join_lines(text: str) -> list[str]:
    """Instructions, each on one line; comments are none, also between the lines of one."""
    spoken = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [line.strip() for line in re.sub(r"\\\s*\n", " ", "\n".join(spoken)).splitlines() if line.strip()]


def _is_fixed(origin: str, stages: set[str], defaults: dict[str, str]) -> bool:
    if SWITCH in origin:
        return all(origin.replace(SWITCH, value).lower() in stages for value in ("0", "1"))
    meant = re.sub(r"\$\{(\w+)\}", lambda found: defaults.get(found[1], found[0]), origin)
    return meant.lower() in stages or DIGEST.fullmatch(meant) is not None
