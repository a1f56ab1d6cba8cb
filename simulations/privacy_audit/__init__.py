"""An empirical lower bound of epsilon, beside the claimed one: ``fedfer audit-privacy``.

::

    bounds.py       from right guesses, or true and false positives, to epsilon: pure statistics
    canaries.py     made-up pictures, each in a site's data by the toss of a coin
    watch.py        stands where the coordinator stands, and sees every update
    laboratory.py, trials.py     one round many times, with and without one picture
    gradients.py, lens.py     what the auditor works out of gradients, apart from the code that trains
    evidence.py     how much an update says for a canary: a log likelihood ratio
    auditor.py      scores every canary in every round
    inference.py    membership inference by loss, on real records
    canary_run.py, finished.py     the two audits: one training with canaries, one finished run
    show.py, page.py, templates/   what was found, on the terminal and as a page

Nothing here is part of a site: canaries are ordinary records of its table, and the auditor listens to ordinary
messages. No plan can switch anything of it on.
"""
