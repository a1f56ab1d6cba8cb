"""The picture of accuracy and fairness: which systems no other one betters."""

from server.report.audit.pareto import Point, bettered, pareto
from server.report.folder import Facts
from server.report.systems import System


def system(key, accuracy, worst, gap=None):
    facts = {
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - 0.05, accuracy + 0.05],
        "worst_recall": worst,
    }
    if gap is not None:
        facts["parity"] = {"age": {"accuracy_gap": gap, "accuracy_gap_interval": [0.0, gap + 0.1]}}
    return System(key, key.title(), "--federated", "circle", Facts(facts, key))


def test_the_front_is_of_those_that_no_other_betters():
    found = pareto(
        [system("a", 0.8, 0.3, 0.1), system("b", 0.7, 0.4, 0.1), system("c", 0.6, 0.2, 0.02)], ["age"]
    )
    worst, gap = found["charts"]
    assert worst["best"] == ["A", "B"]
    assert gap["best"] == ["A", "C"]
    assert gap["title"] == "Accuracy gap by age"
    assert "A: 80.0" in worst["svg"]
    assert worst["rows"][0][1].replace("\N{NARROW NO-BREAK SPACE}", " ") == "80.0 % (75.0 to 85.0)"


def test_equals_do_not_better_each_other():
    points = [Point(system(key, 0.5, 0.5), 0.5, 0.5, (0.5, 0.5), (0.5, 0.5)) for key in "ab"]
    assert not any(bettered(point, points, high_is_good=True) for point in points)


def test_one_system_has_nothing_beside_it():
    assert pareto([system("a", 0.8, 0.3)], ["age"]) is None
    assert [
        chart["title"] for chart in pareto([system("a", 0.8, 0.3), system("b", 0.8, 0.3)], ["age"])["charts"]
    ] == ["Recall of the worst class"]
