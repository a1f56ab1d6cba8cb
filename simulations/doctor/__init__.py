"""``fedfer doctor``: whether this machine and this installation can do the work, and what to do where they cannot.

Each module looks at one thing and returns findings: :mod:`~simulations.doctor.versions` at what is installed,
:mod:`~simulations.doctor.randomness` at what keys and noise come from, :mod:`~simulations.doctor.machine` at
processors, memory, disk and programs, :mod:`~simulations.doctor.speeds` at how fast training and masking are.
Nothing is asked of a network.
"""
