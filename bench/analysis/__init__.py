"""Frame -> frame: rankings, the Jacobian's overhead, growth, comparisons; pure, without torch."""
