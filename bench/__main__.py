"""`python -m bench`."""

if __name__ == "__main__":  # processes that check records import this file too, and need none of what the command line needs
    import os
    import signal

    try:
        from assay.bench.cli import main

        main()
    except KeyboardInterrupt:  # while the command line was still being imported, and nothing was started
        os._exit(128 + signal.SIGINT)
