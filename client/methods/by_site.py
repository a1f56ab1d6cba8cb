"""Methods that weigh sites by how each of them fares."""

from __future__ import annotations

from client.methods.declaration import Method

_IN_CLEAR = "the coordinator weighs each update by that site's own {}, and secure sums show it none"
_NO_NOISE = "the site's {} leaves it in every round without noise, which no epsilon accounts for"

Q_FFL = Method(
    "q_ffl",
    "weighs a site's update by its loss to the power of q, so that the worst-served sites count more",
    "Li, Sanjabi, Beirami and Smith 2020, Fair resource allocation in federated learning, algorithm 2 (q-FedAvg)",
    reveals="each site's training loss and update, round by round",
    traffic="one number a round",
    secure=_IN_CLEAR.format("loss"),
    private=_NO_NOISE.format("loss"),
    caution=(
        "It evens out sites, not groups of people. The loss is the mean over the round's own batches, and not, as in "
        "the paper, over all pictures with the weights that the round began with."
    ),
)

AFL = Method(
    "afl",
    "trains for the worst mixture of the sites: a site's weight grows with its loss",
    "Mohri, Sivek and Suresh 2019, Agnostic federated learning (Stochastic-AFL)",
    reveals="each site's training loss and update, round by round",
    traffic="one number a round",
    secure=_IN_CLEAR.format("loss"),
    private=_NO_NOISE.format("loss"),
    caution=(
        "It evens out sites, not groups of people. Every site takes part in every round; a site whose labels are wrong "
        "has a high loss and gets the most weight."
    ),
)

FAIRFED = Method(
    "fairfed",
    "weighs a site less, the further the gap between groups at the site is from the gap over all sites",
    "Ezzeldin, Yan, He, Ferrara and Avestimehr 2023, FairFed: enabling group fairness in federated learning",
    needs="the group of its training pictures, where disclosed",
    reveals="each site's pictures by group, class and answer, and its update, round by round",
    traffic="groups x classes x classes numbers a round",
    work="a forward pass over up to 256 of its training pictures a round",
    secure=_IN_CLEAR.format("gap between groups"),
    private=_NO_NOISE.format("counts by group"),
    caution=(
        "A site of a single group has no gap and goes by its accuracy. The gap is that of recalls, the mean over "
        "classes of the largest difference between groups."
    ),
)

BY_SITE = (Q_FFL, AFL, FAIRFED)
