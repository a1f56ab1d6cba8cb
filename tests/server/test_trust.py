"""The sentence on trust names what the guarantee holds against, and who has to be honest."""

from client.plan import Privacy
from server.trust import trust_of


def privacy_of(**own):
    return Privacy(1.0, clip=1.0, delta=1e-5, nominal_units=100, **own)


def test_the_noise_of_a_site_asks_for_no_other_site():
    said = trust_of(privacy_of(), simulated=True)
    assert "by themselves" in said
    assert said == trust_of(privacy_of(), simulated=False)


def test_distributed_noise_names_the_honest_sites_and_the_simulation():
    privacy = privacy_of(noise="distributed", threshold=10, colluders=3)
    simulated, deployed = (trust_of(privacy, simulated=each) for each in (True, False))
    for said in (simulated, deployed):
        assert "whoever sees only the sums" in said
        assert "at least 7 of the 10 sites" in said
    assert "coordinator's process sees each share" in simulated
    assert "simulation" not in deployed
    assert "the one site" in trust_of(privacy_of(noise="distributed"), simulated=True)
