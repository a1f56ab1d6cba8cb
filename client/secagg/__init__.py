"""Secure aggregation: the coordinator learns the sum over the sites and nothing about one of them.

A site's half of the protocol of Bonawitz et al. 2017 (CCS), the variant against active adversaries: pairwise and
self masks, shared keys for drop-outs, signed keys, and a round in which sites agree on who survived. Pure state
machines over bytes: no clock, no socket, no torch.
"""
