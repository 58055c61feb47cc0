"""`python -m pipeline.cli`: the `analytics` command where its script is not installed."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
