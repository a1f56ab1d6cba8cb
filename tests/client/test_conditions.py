"""What a site holds every question against: who signed the plan, the hour, the work of a run, plans a day."""

import json
from dataclasses import replace
from datetime import datetime

import pytest

from client.conditions import MOST_PLANS, MOST_UNSIGNED, Conditions
from client.hours import Worked, within
from client.identity import Identity
from client.plan_signature import is_signed, sign_plan
from client.policy import read_policy
from client.policy_template import TEMPLATE
from fer_models.errors import ConfigError, PolicyError

COORDINATOR, STRANGER = Identity(bytes(range(32))), Identity(bytes(range(1, 33)))
NOON, NIGHT = datetime(2026, 1, 31, 12, 0), datetime(2026, 1, 31, 2, 30)


@pytest.fixture
def conditions(tmp_path):
    """conditions(old, new): those of the template with one place changed."""

    def make(old="", new="", now=NOON, worked=None):
        assert old in TEMPLATE
        (tmp_path / "policy.yaml").write_text(TEMPLATE.replace(old, new, 1))
        policy = read_policy(tmp_path / "policy.yaml")
        return Conditions(policy, "clinic", COORDINATOR.public.hex(), worked or Worked(), lambda: now)

    return make


def refused(work, rule):
    with pytest.raises(PolicyError) as error:
        work()
    assert error.value.where == f"clinic, {rule}"
    return error.value.what


def test_a_plan_is_signed_by_the_coordinator_that_the_site_knows(conditions, plan_of):
    plan, held = plan_of(), conditions()
    good, foreign = sign_plan(COORDINATOR, plan), sign_plan(STRANGER, plan)
    other = sign_plan(COORDINATOR, replace(plan, run="another"))
    assert "nobody has signed" in refused(lambda: held.require_signed(plan, None), "coordinator.signed")
    for false in (foreign, other, good[:-2], "zz", "", good.upper() + "00"):
        said = refused(lambda false=false: held.require_signed(plan, false), "coordinator.signed")
        assert said == "the plan is signed by somebody else"
    held.require_signed(plan, good)
    held.require_signed(plan, None)  # it has been
    again = replace(plan, run="another")
    refused(lambda: held.require_signed(again, good), "coordinator.signed")
    conditions("signed: true", "signed: false").require_signed(plan, None)
    assert not is_signed(plan, good, "no key")


def test_a_site_works_at_its_hours_alone(conditions, plan_of):
    plan = plan_of()
    conditions().require_time(plan)
    for times, noon, night in (
        ('["18:00-07:00"]', False, True),
        ('["18:00-24:00", "00:00-07:00"]', False, True),
        ('["09:00-17:00"]', True, False),
        ('["02:30-02:31"]', False, True),
        ('["02:29-02:30"]', False, False),
        ("[]", False, False),
    ):
        for now, works in ((NOON, noon), (NIGHT, night)):
            held = conditions('["00:00-24:00"]', times, now)
            if works:
                held.require_time(plan)
            else:
                refused(lambda held=held: held.require_time(plan), "training.times")
    assert within(["23:59-00:00"], datetime(2026, 1, 1, 23, 59))


def test_a_run_takes_no_more_hours_than_the_site_gives_it(conditions, plan_of, tmp_path):
    plan, path = plan_of(), tmp_path / "worked.json"
    worked = Worked(path)
    held = conditions("hours: 48.0", "hours: 0.5", worked=worked)
    worked.add(plan.digest, 1799.0)
    held.require_time(plan)
    worked.add(plan.digest, 2.0)
    assert "longer than 0.5 hours" in refused(lambda: held.require_time(plan), "training.hours")
    held.require_time(replace(plan, run="another"))
    worked.save()
    again = conditions("hours: 48.0", "hours: 0.5", worked=Worked(path))
    refused(lambda: again.require_time(plan), "training.hours")  # after a restart


def test_time_that_was_worked_is_kept_and_bounded(tmp_path):
    path = tmp_path / "worked.json"
    worked = Worked(path)
    worked.add("a", 1.0)
    assert not path.exists()
    for number in range(1500):
        worked.add(f"plan {number}", 20.0)
    found = json.loads(path.read_text())
    assert (len(found), found["plan 1499"], "a" in found) == (1000, 20.0, False)
    path.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        Worked(path)


def test_only_so_many_new_plans_a_day(conditions):
    held = conditions()
    for _ in range(MOST_PLANS):
        held.require_new()
    assert "within a day" in refused(held.require_new, "plans a day")
    assert [held.notes_unsigned() for _ in range(MOST_UNSIGNED + 2)] == [True] * MOST_UNSIGNED + [False] * 2
