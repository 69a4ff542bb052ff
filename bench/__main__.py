"""`python -m bench`, in a checkout."""

from assay.__main__ import main

if __name__ == "__main__":
    main()
