"""What clips are like, in numbers: `gather` takes a query through it (`ziggurat stats`)."""
