"""What the coordinator does so that a model serves groups alike, from sums over sites alone."""
