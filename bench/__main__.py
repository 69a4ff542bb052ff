"""`python -m bench`."""

if __name__ == "__main__":  # processes that check records import this file too, and need none of what the command line needs
    from bench.cli import main

    main()
