"""The terms of secure aggregation: floors by hand, and refusals with the cure."""

import pytest

from client.secagg.terms import Secure, least_threshold
from fer_models.errors import ConfigError

SPARSE = {"degree": 4, "profile": "semi-honest"}


def terms(**changed):
    return Secure(**{"sites": 10, "threshold": 7, "minimum": 3, "clip": 8.0, **changed})


@pytest.mark.parametrize(
    ("holders", "malicious", "semi_honest"),
    [(3, 3, 2), (4, 3, 3), (5, 4, 3), (6, 5, 4), (10, 7, 6), (50, 34, 26), (49, 33, 25)],
)
def test_thresholds_by_hand(holders, malicious, semi_honest):
    assert least_threshold(holders, "malicious") == malicious
    assert least_threshold(holders, "semi-honest") == semi_honest


@pytest.mark.parametrize("holders", range(3, 200))
def test_two_sets_of_survivors_share_an_honest_site(holders):
    """Up to a third of the sites may help a coordinator that shows one half this set and the other half that one."""
    t = least_threshold(holders, "malicious")
    assert 2 * t - holders > holders / 3
    assert t <= holders


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"sites": 2, "threshold": 2, "minimum": 2}, "aggregation"),
        ({"sites": 4, "threshold": 3, "minimum": 4, "colluders": 2}, "aggregation"),
        ({"sites": 4097, "threshold": 4000}, "aggregation"),
        ({"threshold": 6}, "aggregation.threshold"),
        ({"threshold": 11}, "aggregation.threshold"),
        ({"threshold": 5, "profile": "semi-honest"}, "aggregation.threshold"),
        ({"minimum": 2}, "aggregation.minimum"),
        ({"minimum": 4, "colluders": 2}, "aggregation.minimum"),
        ({"minimum": 11}, "aggregation.minimum"),
        ({"colluders": -1}, "aggregation.colluders"),
        ({"degree": 4, "threshold": 4}, "aggregation.degree"),
        ({"degree": 3, "threshold": 3, "profile": "semi-honest"}, "aggregation.degree"),
        ({"degree": -2, "threshold": 3, "profile": "semi-honest"}, "aggregation.degree"),
        ({"degree": 10, "profile": "semi-honest"}, "aggregation.degree"),
        ({"degree": 4, "threshold": 7, "profile": "semi-honest"}, "aggregation.threshold"),
        ({**SPARSE, "threshold": 5, "minimum": 10, "colluders": 5}, "aggregation.threshold"),
        ({"threshold": 7, "minimum": 7, "colluders": 4}, "aggregation.threshold"),
        ({"sites": 201, "threshold": 135}, "aggregation"),
        ({"clip": 0.0}, "aggregation.clip"),
        ({"clip": float("inf")}, "aggregation.clip"),
        ({"largest_weight": 0}, "aggregation.largest_weight"),
        ({"largest_weight": 1 << 31}, "aggregation.largest_weight"),
    ],
)
def test_terms_that_do_not_hold_are_refused(changed, where):
    with pytest.raises(ConfigError) as error:
        terms(**changed)
    assert error.value.where == where
    assert error.value.cure.endswith(".")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("holders", range(3, 60))
@pytest.mark.parametrize("colluders", range(0, 5))
@pytest.mark.parametrize("profile", ["malicious", "semi-honest"])
def test_colluders_do_not_help_to_open_two_sets(holders, colluders, profile):
    """They count in both sets, the honest sites in one: that is n + c at most, and two thresholds are more."""
    if holders >= 3 + colluders:
        assert 2 * least_threshold(holders, profile, colluders) > holders + colluders
        assert least_threshold(holders, profile, colluders) <= holders


def test_the_fewest_sites_of_a_sum():
    assert terms().fewest == 7
    assert terms(minimum=9).fewest == 9
    assert terms(sites=4, threshold=3, minimum=4, colluders=1).fewest == 4
    sparse = terms(sites=100, degree=8, threshold=5, minimum=60, profile="semi-honest")
    assert (sparse.fewest, sparse.holders) == (60, 9), "shares come from the peers, survivors from everywhere"
