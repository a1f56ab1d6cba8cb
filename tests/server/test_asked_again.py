"""An answer of a secure round that was lost on the way is given again, with all that went with it."""

from dataclasses import dataclass, replace

from client.ledger import close_all
from client.messages import facts_of
from client.plan import Secure
from client.secagg.policy import Policy
from client.secure_site import SecureSite
from server.run_folder import RunFolder
from simulations.federated import Sites, run_local


class Unheard(SecureSite):
    """A real site whose every masked vector is lost on the way, so that it is asked a second time."""

    def finish(self, content, plan, purpose, values, done=None):
        super().finish(content, plan, purpose, values, done)
        return self.begin(content, plan, purpose, int(facts_of(content).get("round", 0)))


@dataclass(frozen=True)
class Lossy(Sites):
    """Sites whose vectors are kept, as real sites keep them, and asked for twice."""

    def secure(self, context):
        """Return a node's part in secure aggregation."""
        found = super().secure(context)
        if not isinstance(found, Unheard):
            member = replace(found._member, policy=Policy(profile="semi-honest"))
            found = self._members[int(context.node_config["partition-id"])] = Unheard(found.agent, member)
        return found


def test_what_a_round_has_cost_is_told_again_with_the_vector(plan_of, sites_of, tmp_path):
    plan = replace(plan_of(private=True, rounds=2), aggregation="secure", secure=Secure(5, 4, 3, clip=4.0))
    whole = sites_of((18,) * 5)
    found = []
    for kind, name in ((Sites, "once"), (Lossy, "twice")):
        sites = kind(whole.samples, whole.partition, whole.seed, None)
        found.append(run_local(plan, sites, RunFolder(tmp_path / name), "federated", 1, lambda _: None))
        close_all()
    assert found[0].epsilon.keys() == set(whole.names)
    assert found[1].epsilon == found[0].epsilon
