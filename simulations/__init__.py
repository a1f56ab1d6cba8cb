"""Many sites on one machine: drawn faces, partitions, baselines, benchmarks, the command line."""
