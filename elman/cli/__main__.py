"""`python -m elman.cli`, the same as `elman`."""

from elman.cli.main import main

main()
