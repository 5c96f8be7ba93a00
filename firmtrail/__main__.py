"""`python -m firmtrail` is the `firmtrail` command."""

from firmtrail.main import main

main()
