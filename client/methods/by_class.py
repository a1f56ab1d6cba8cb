"""Methods that look at classes alone, never at who is in a picture."""

from __future__ import annotations

from client.methods.declaration import Method

_COUNTS = {
    "reveals": "each site's pictures by class, under secure aggregation their sums; nothing with local.prior=[...]",
    "epsilon": "privacy.counts_epsilon, once (pure; 0.5 by default)",
    "traffic": "one number a class, once",
}
"""What asking for label counts comes to; see :mod:`client.label_counts`."""

NONE = Method(
    "none",
    "plain training, which the other methods are held against",
    "McMahan et al. 2017, Communication-efficient learning of deep networks from decentralized data",
)

FOCAL = Method(
    "focal",
    "what the net is already sure of counts for little: (1 - p)^gamma before each logarithm",
    "Lin et al. 2017, Focal loss for dense object detection, equation 4",
    work="a few percent of a loss",
    caution="Under differential privacy the clip shortens the large gradients that it gives to hard pictures.",
)

CLASS_BALANCED = Method(
    "class_balanced",
    "a picture's loss is divided by the share of its class",
    "King and Zeng 2001, Logistic regression in rare events data (weights by class)",
    **_COUNTS,
    caution=(
        "Under differential privacy the clip undoes most of it: a rare class's larger gradient is cut back to the "
        "clip. Take logit_adjustment there."
    ),
)

LOGIT_ADJUSTED = Method(
    "logit_adjusted",
    "trains on logits + tau log share of the class, so that the net itself learns all classes as equally frequent",
    "Menon et al. 2021, Long-tail learning via logit adjustment, equation 10",
    **_COUNTS,
)

LOGIT_ADJUSTMENT = Method(
    "logit_adjustment",
    "takes tau log share of the class off the finished model's logits; training is left as it is",
    "Menon et al. 2021, Long-tail learning via logit adjustment, equation 9",
    **_COUNTS,
)

BY_CLASS = (NONE, FOCAL, CLASS_BALANCED, LOGIT_ADJUSTED, LOGIT_ADJUSTMENT)
