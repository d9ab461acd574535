"""What the loop of training costs beside what it trains."""
