"""Ways of training -> the time that each takes to reach a loss."""
