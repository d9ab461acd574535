"""`python -m bench.shots`: see `measured`."""

from bench.shots.measured import main

main()
