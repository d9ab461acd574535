"""Whether a set-up can work, asked before the data: packages, hardware, decoder, filters. `report` gathers it."""
