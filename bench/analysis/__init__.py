"""Frame -> frame: rankings, growth, comparisons, what differs between runs; pure, without torch."""
