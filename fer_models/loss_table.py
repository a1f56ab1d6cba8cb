"""What there is to know of each loss: what it is for, what it looks at, its paper, what was changed, its number.

Whether privacy lets a loss in does not stand here: ``fedfer losses`` asks the guard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LossFacts:
    """One loss.

    Attributes
    ----------
    what : what it is for.
    sees : "logits", "features", "heads", "pictures" or "parameters", besides the targets.
    paper : where it comes from.
    changed : what differs from there, and why; empty for nothing.
    number : what ``local.strength`` is, and its default; empty where there is none.
    """

    what: str
    sees: str
    paper: str
    changed: str = ""
    number: str = ""


BY_GRADIENT = "centres are parameters and learn by gradient, not by a rule over the batch"

TABLE: Mapping[str, LossFacts] = {
    "cross_entropy": LossFacts(
        "the default; local.smoothing smooths labels", "logits", "Szegedy et al. 2016"
    ),
    "focal": LossFacts(
        "attends to what the net does not know yet; local.focusing",
        "logits",
        "Lin et al. 2017, arXiv:1708.02002",
    ),
    "class_balanced": LossFacts(
        "rare classes weigh more; needs shares of the classes", "logits", "weights of inverse frequency"
    ),
    "logit_adjusted": LossFacts(
        "learns logits for equal shares; needs shares of the classes",
        "logits",
        "Menon et al. 2021, arXiv:2007.07314",
    ),
    "ldam": LossFacts(
        "rare classes get a larger margin; needs shares of the classes",
        "logits",
        "Cao et al. 2019, arXiv:1906.07413",
        "logits are not normalised, and the scale is 1",
        "the margin of the rarest class, 0.5",
    ),
    "vote_kl": LossFacts(
        "how far a prediction is from the annotators' votes; 0 where it is the votes",
        "logits",
        "Barsoum et al. 2016, arXiv:1608.01041",
    ),
    "pdls": LossFacts(
        "labels smoothed by what a class is also taken for; needs public rows, local.similar",
        "logits",
        "prior distribution label smoothing, of the survey",
        "rows are given, and not estimated from private labels",
        "the share of the target that is kept, 0.8",
    ),
    "centre": LossFacts(
        "features of a class lie close together",
        "features",
        "Wen et al. 2016, ECCV",
        BY_GRADIENT,
        "the term's weight, 0.01",
    ),
    "weighted_cluster": LossFacts(
        "close together, and far from other classes' centres",
        "features",
        "weighted cluster loss, of the survey",
        "the sum is over centres, where the survey's equation 4 misprints samples; weights of classes are 1; "
        + BY_GRADIENT,
        "the term's weight, 0.1",
    ),
    "dacl": LossFacts(
        "close together in the dimensions that attention picks",
        "features",
        "Farzaneh and Qi 2021, WACV",
        "attention sees features, in two layers; " + BY_GRADIENT,
        "the term's weight, 0.01",
    ),
    "ad_corre_embedding": LossFacts(
        "several embeddings of a picture do not go together",
        "features",
        "Fard and Mahoor 2022, doi:10.1109/ACCESS.2022.3156598",
        "the third part alone, which is a picture's own; embeddings belong to the loss",
        "the term's weight, 0.5",
    ),
    "ad_corre": LossFacts(
        "all parts: embeddings of a class go together, those of two do not",
        "features",
        "Fard and Mahoor 2022, doi:10.1109/ACCESS.2022.3156598",
        "correlations have gradients, which the released code cuts off; no weights by a running confusion matrix",
        "the terms' weight, 0.5",
    ),
    "dan_partition": LossFacts(
        "keeps attention heads apart",
        "heads",
        "Wen et al. 2021, arXiv:2109.07270",
        "the mean over pictures stands outside of the logarithm, so that a picture's value is its own",
        "the term's weight, 0.1",
    ),
    "relative_uncertainty": LossFacts(
        "mixed features of two pictures must tell both, weighed by uncertainty",
        "features",
        "Zhang et al. 2021, NeurIPS",
        "a picture's partner is the next one of the batch",
        "the loss's weight, 1",
    ),
    "adareg": LossFacts(
        "the last layer's classes lie far apart",
        "parameters",
        "Li et al. 2021, IEEE TIP 30",
        "weights of classes are 1; under privacy it is added after the noise, since it sees no picture",
        "lambda, 0.1",
    ),
    "mixup": LossFacts(
        "mixtures of two pictures have mixed targets",
        "pictures",
        "Zhang et al. 2018, arXiv:1710.09412",
        "a picture's partner is the next one of the batch",
        "alpha of the Beta distribution, 0.2",
    ),
    "mixaugment": LossFacts(
        "mixtures, and the pictures as they are",
        "pictures",
        "Psaroudakis and Kollias 2022, arXiv:2205.04442",
        "a picture's partner is the next one of the batch",
        "alpha of the Beta distribution, 0.2",
    ),
}
"""Name of ``local.loss`` -> facts."""
