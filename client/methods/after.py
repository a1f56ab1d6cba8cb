"""Methods that mend the finished net, after the last round."""

from __future__ import annotations

from client.methods.declaration import Method

LEACE = Method(
    "leace",
    "makes the groups' mean features alike in the finished net, so that no linear rule tells groups from what its last "
    "layer uses",
    "Belrose et al. 2023, LEACE: perfect linear concept erasure in closed form; under privacy an orthogonal projection",
    needs="the group of its pictures, where people disclose it; a site may opt out, and nobody sees that it did",
    reveals="sums of features over all sites, by group, once",
    epsilon="fairness.moments_epsilon, once (0.5 by default)",
    traffic="once: features^2 / 2 numbers, under privacy groups x features",
    work="one pass over the training pictures",
    plain="a site's own sums of features by group would tell which groups it holds",
    caution="Rules that are not linear may still tell groups, and errors need not become equal. Under privacy it takes "
    "many pictures a feature; the report says how much of the difference is not noise.",
)

SCORE_NORMALISATION = Method(
    "score_normalisation",
    "gives each cluster of look-alikes a bias that takes back what the finished net says too often of it, beyond what "
    "it says too often of all",
    "after Terhoerst et al. 2020, Post-comparison mitigation of demographic bias in face recognition using fair score "
    "normalization: the same idea for classes in place of comparisons",
    reveals="sums of features over all sites; of each cluster its pictures by class, and by the class they are given",
    epsilon="fairness.moments_epsilon, once (0.5 by default)",
    traffic="once: 4 x clusters x features numbers",
    work="seven passes over the training pictures, without gradients",
    plain="a site's own sums of features would tell which faces it holds",
    caution="Clusters are of what the net sees, which need not be what people differ in.",
)

AFTER = (LEACE, SCORE_NORMALISATION)
