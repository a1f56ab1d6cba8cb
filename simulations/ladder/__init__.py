"""The ladder: what privacy and federation cost, and whom, one step at a time.

``fedfer compare experiment=study`` runs the same pictures, split, sites and first weights through every step from one
pooled model to an eight-bit net at the edge. :mod:`simulations.ladder.rungs` names the steps,
:mod:`simulations.ladder.run` runs them in the folders of a study, :mod:`simulations.ladder.edge` makes the last one,
:mod:`simulations.ladder.table` holds each against the one before, and :mod:`simulations.ladder.page` shows it.
"""
