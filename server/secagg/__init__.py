"""The coordinator's half of secure aggregation: it learns the sum over a session's sites and nothing about one."""
