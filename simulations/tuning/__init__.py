"""Choosing the levers of private training on a public proxy: drawn faces, dealt to sites like the user's.

Settings that are chosen by looking at private pictures leak what they were chosen by. So the search never reads any: it
draws as many faces as the user has pictures, for as many sites, classes and pixels, tries levers on them, and prints
the settings to copy.

::

    facts.py    what the user says of the real data, and the proxy drawn after it
    levers.py   what can be chosen, what a choice costs, and which ones lie beside it
    search.py   which trials to run within a budget, in which order
    outcome.py  the frontier as a table, as words to copy, and as plain values
    command.py  fedfer tune-private
"""
