"""Options -> the benchmarks to measure: axes, grids, shards of a plan."""
