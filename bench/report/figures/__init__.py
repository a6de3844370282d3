"""Frame -> figures, each a question that its title asks."""
