"""Sweeps: many small runs beside each other, and pictures of how each figure moves.

``fedfer compare experiment=methods`` holds federated methods against each other at several local steps a round,
``fedfer compare experiment=sweeps`` moves one setting at a time. Both are studies (:mod:`simulations.study`) whose
methods are cells: :mod:`simulations.sweeps.cells` names them, :mod:`simulations.sweeps.run` runs them,
:mod:`simulations.sweeps.facts` makes the figures and the files, and :mod:`simulations.sweeps.picture` draws them.
"""
