"""What the coordinator runs: rounds, aggregation, evaluation, report."""
