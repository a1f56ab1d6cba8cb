"""Studies: several methods of fair training over the same seeds, in one table with paired differences.

A study is a folder of ordinary runs, one a method and seed. :mod:`simulations.study.asked` reads what the command
line asks for, :mod:`simulations.study.run` runs it, :mod:`simulations.study.table` makes the figures, and
:mod:`simulations.study.page` shows them.
"""
