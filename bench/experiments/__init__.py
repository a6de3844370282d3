"""What tests the suite itself. Only `cli` imports it."""
