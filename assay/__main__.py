"""`python -m assay` and, where it is installed, the command `assay`. Every Python 3 can read this file, bench/__main__.py and assay/__init__.py."""

import sys


def main() -> None:
    """The command line, or one line that says that this Python is too old for it."""
    if sys.version_info < (3, 11):  # noqa: UP036  # a checkout is started by any Python, whatever pyproject.toml requires
        sys.stderr.write("error: Python 3.11 or newer is needed, and this is %d.%d; name another, e.g. python3.12\n" % sys.version_info[:2])  # noqa: UP031
        sys.exit(2)
    import os
    import signal

    try:
        from assay.bench.cli.main import main as run

        run()
    except KeyboardInterrupt:  # while the command line was still being imported, and nothing was started
        os._exit(128 + signal.SIGINT)


if __name__ == "__main__":  # processes that read records in parallel import this file too
    main()
