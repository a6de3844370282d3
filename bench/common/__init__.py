"""What every package may use: errors in one line, units in words, paths. Imports none of them."""
