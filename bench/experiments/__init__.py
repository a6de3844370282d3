"""What tests the suite itself. Only the commands `experiment`, `report` and `site` import it."""
