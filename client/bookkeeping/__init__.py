"""The private step at the price of a plain one: book-keeping of per-unit gradients (Bu et al. 2023).

One forward, one backward that computes no weight gradient, and for every layer either each unit's gradient or only
its norm; then the clipped sum comes from one re-weighted sum a layer.
"""
