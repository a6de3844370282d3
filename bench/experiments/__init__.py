"""What proves the harness itself. Nothing of the harness imports this."""
