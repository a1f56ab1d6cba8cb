"""Methods that look at the groups of people: all through sums that no single site can be told from."""

from __future__ import annotations

from client.methods.declaration import Method

_GROUPS = (
    "the group of its pictures, where people disclose it; a site may opt out, and nobody sees that it did"
)

_PLAIN = (
    "what a site sends about its groups would reach the coordinator by itself; a critic's update alone tells whether a "
    "site holds one group, and which"
)

_COUNTS = "pictures by group and class, over all sites"

_ONCE = "privacy.counts_epsilon, once (pure; 0.5 by default)"

_NUMBERS = "groups x classes numbers, once"

CRITIC = Method(
    "critic",
    "the default: pulls all features to where the coordinator's critic cannot tell groups, and weighs up who is served "
    "worst",
    "after Hong et al. 2021, Federated adversarial debiasing for fair and transferable representations (FADE); the "
    "frozen critic, the secure sums and the weights after the clip are FedFER's",
    needs=_GROUPS,
    reveals=f"{_COUNTS}; right and wrong answers by group and class in every round's sum; a critic of groups",
    epsilon=f"{_ONCE}; critic and answers share the training's own noise, which grows by a tenth for the same epsilon",
    traffic="the critic's parameters and 2 x groups x classes numbers a round",
    work="a small net on the features",
    plain=_PLAIN,
    caution="Features that tell no group do not by themselves serve groups alike: look at the recalls as well.",
)

CRITIC_PRIVATE = Method(
    "critic_private",
    "the default under differential privacy: the critic, and a loss adjusted for the shares of the classes in place of "
    "weights",
    "as critic; Menon et al. 2021, Long-tail learning via logit adjustment, equation 10, with tau 1.5",
    needs=_GROUPS,
    reveals=f"{_COUNTS}; a critic of groups",
    epsilon=f"{_ONCE}; the critic shares the training's own noise, which grows by a hundredth for the same epsilon",
    traffic="the critic's parameters a round",
    work="a small net on the features",
    plain=_PLAIN,
    caution="It gives rare expressions back what the noise takes. The gap between groups it leaves, or widens.",
)

GRADIENT_REVERSAL = Method(
    "gradient_reversal",
    "FADE: the critic's loss with its gradient reversed, for pictures whose group is disclosed",
    "Hong et al. 2021, Federated adversarial debiasing for fair and transferable representations; Ganin and Lempitsky "
    "2015 for the ramp",
    needs=_GROUPS,
    reveals=f"{_COUNTS}; a critic of groups",
    epsilon=f"{_ONCE}; the critic shares the training's own noise, which grows by a twentieth for the same epsilon",
    traffic="the critic's parameters a round",
    work="a small net on the features",
    plain=_PLAIN,
    caution="Pictures whose group is undisclosed do not take part: where half opt out, much of the gain is gone.",
)

REWEIGHING = Method(
    "reweighing",
    "weights by group and class, from their counts, that make the two independent",
    "Kamiran and Calders 2012, Data preprocessing techniques for classification without discrimination",
    needs=_GROUPS,
    reveals=_COUNTS,
    epsilon=_ONCE,
    traffic=_NUMBERS,
    plain=_PLAIN,
    caution="Where classes are spread alike over groups the weights are all the same, and it changes nothing.",
)

MINIMAX = Method(
    "minimax",
    "weights of groups that grow, round by round, where their errors are above the mean",
    "Diana et al. 2021, Minimax group fairness: algorithms and experiments; Mohri et al. 2019",
    needs=_GROUPS,
    reveals=f"{_COUNTS}; right and wrong answers by group and class in every round's sum",
    epsilon=f"{_ONCE}; the answers share the training's own noise, which grows by a twentieth for the same epsilon",
    traffic="2 x groups x classes numbers a round",
    plain=_PLAIN,
)

BY_GROUP = (CRITIC, CRITIC_PRIVATE, GRADIENT_REVERSAL, REWEIGHING, MINIMAX)
