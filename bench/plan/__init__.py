"""Options -> the benchmarks to measure: axes and grids."""
