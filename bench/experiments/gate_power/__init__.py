"""Trials of the gate on code that did not change, or was slowed: its two error rates."""
