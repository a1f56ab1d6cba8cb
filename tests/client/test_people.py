"""Who is protected: all pictures of a person clip as one, and views of a picture are averaged before the clip."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from client.private_training import poisson_batch, train_private
from client.randomness import KeyedStream, SeededEntropy
from client.training import LocalRows, people_of
from fer_models.errors import PrivacyError

SITE = SeededEntropy(0, "site-0")
SILENT = 1e-15
"""A noise multiplier that leaves the sum as it is."""


def data_of(samples, who, rows=None):
    rows = np.arange(len(who)) if rows is None else np.asarray(rows)
    table = replace(samples, subject=None if who is None else np.resize(np.array(who), len(samples)))
    return LocalRows(table, rows, torch.from_numpy(table.targets(rows)))


def test_people_are_the_places_of_their_pictures(samples):
    data = data_of(samples, ["b", "a", "b", "c", "a", "b"])
    assert [own.tolist() for own in data.people] == [[1, 4], [0, 2, 5], [3]]
    some = data_of(samples, ["b", "a", "b", "c", "a", "b"], rows=[5, 3, 0])
    assert [own.tolist() for own in some.people] == [[0, 2], [1]]


def test_pictures_of_nobody_in_particular_protect_no_person(samples):
    with pytest.raises(PrivacyError, match=r"do not say who is on them.*privacy\.unit=record"):
        people_of(samples, np.arange(3))


def test_a_clip_is_no_person_to_protect(samples):
    clips = replace(
        samples, subject=np.resize(np.array(["clip 1", "clip 2"]), len(samples)), subject_is="clip"
    )
    with pytest.raises(PrivacyError, match="no person can be protected"):
        people_of(clips, np.arange(3))


def test_a_batch_takes_people_as_a_whole_and_each_by_itself(samples, plan_of):
    data = data_of(samples, [f"person {i // 3}" for i in range(150)])
    privacy = plan_of(privacy={"unit": "subject"}).privacy
    taken = np.zeros(50, int)
    stream = KeyedStream(bytes(32))
    for _ in range(400):
        rows, sizes = poisson_batch(data, privacy, 0.2, stream)
        assert sizes == [3] * len(sizes)
        assert len(rows) == sum(sizes)
        people = rows.reshape(-1, 3) // 3
        assert (people == people[:, :1]).all()
        taken[people[:, 0]] += 1
    # 20,000 draws at .2; each person is a binomial of 400 draws, and all together of 20,000
    assert abs(taken.sum() - 4000) < 5 * np.sqrt(20_000 * 0.2 * 0.8)
    assert (abs(taken - 80) < 5 * np.sqrt(400 * 0.2 * 0.8)).all()


def test_views_repeat_each_picture(samples, plan_of):
    data = data_of(samples, ["a", "a", "b"])
    privacy = plan_of(privacy={"views": 3}, local={"augment": True}).privacy
    rows, sizes = poisson_batch(data, privacy, 1.0, KeyedStream(bytes(32)))
    assert (rows.tolist(), sizes) == ([0, 0, 0, 1, 1, 1, 2, 2, 2], [3, 3, 3])
    people = replace(privacy, unit="subject", views=2)
    rows, sizes = poisson_batch(data, people, 1.0, KeyedStream(bytes(32)))
    assert (rows.tolist(), sizes) == ([0, 0, 1, 1, 2, 2], [4, 2])


def gradient_of(bench, data, rows, weights):
    """Return the gradient of a weighted sum of losses, in the flat order."""
    bench.flat.zero_grad()
    losses = bench.losses(data.inputs(rows, bench.device), data.targets[torch.from_numpy(rows)])
    (losses * torch.tensor(weights)).sum().backward()
    found = bench.flat.gradient.clone()
    bench.flat.zero_grad()
    return found


@pytest.mark.parametrize("name", ["cnn_tiny", "fer_nano", "hog_linear"])
def test_a_persons_mean_gradient_is_clipped_as_one(name, samples, plan_of, bench_of):
    who = ["a", "a", "b", "c", "c", "c", "a"]
    plan = plan_of(
        name,
        local={"amount": 1, "learning_rate": 1.0, "rate": 1.0},
        privacy={"noise_multiplier": SILENT, "clip": 0.3, "nominal_units": 3, "unit": "subject"},
    )
    bench, data = bench_of(plan), data_of(samples, who)
    expected = torch.zeros_like(bench.flat.vector)
    for rows in ([0, 1, 6], [2], [3, 4, 5]):
        own = gradient_of(bench, data, np.array(rows), [1 / len(rows)] * len(rows))
        expected += own * min(1.0, 0.3 / (float(own.norm()) + 1e-6))
    before = bench.flat.vector.clone()
    train_private(bench, data, plan, 1, SITE, "site-0")
    torch.testing.assert_close(before - bench.flat.vector, expected / 3, rtol=1e-4, atol=1e-6)


def test_views_are_averaged_before_the_clip(samples, plan_of, bench_of, monkeypatch):
    """With an augmentation that does nothing, K views are the picture itself; clipped one by one they would not be."""
    monkeypatch.setattr("client.training.augment", lambda x, *_: x)
    steps = []
    for views in (1, 4):
        plan = plan_of(
            "fer_nano",
            local={"amount": 1, "learning_rate": 1.0, "rate": 1.0, "augment": True},
            privacy={"noise_multiplier": SILENT, "clip": 0.3, "nominal_units": 3, "views": views},
        )
        bench, data = bench_of(plan), data_of(samples, ["a", "b", "c", "d", "e"])
        before = bench.flat.vector.clone()
        train_private(bench, data, plan, 1, SITE, "site-0")
        steps.append(before - bench.flat.vector)
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-4, atol=1e-6)
    assert float(steps[0].norm()) <= 5 * 0.3 / 3 + 1e-4


def test_one_person_moves_a_sum_by_the_clip_however_many_their_pictures(samples, plan_of, bench_of):
    plan = plan_of(
        "fer_nano",
        local={"amount": 1, "learning_rate": 1.0, "rate": 1.0},
        privacy={"noise_multiplier": SILENT, "clip": 0.5, "nominal_units": 1, "unit": "subject"},
    )
    ends = []
    for rows in (range(100), range(30)):  # with and without somebody on 70 pictures, more than go in one pass
        bench = bench_of(plan)
        data = data_of(samples, [f"p{min(i // 3, 10)}" for i in range(150)], rows=rows)
        before = bench.flat.vector.clone()
        train_private(bench, data, plan, 1, SITE, "site-0")
        ends.append(before - bench.flat.vector)
    assert 0.01 < float((ends[0] - ends[1]).norm()) <= 0.5 + 1e-4


def test_an_agent_refuses_a_plan_for_people_it_cannot_tell_apart(agent_of, plan_of):
    plan = plan_of(privacy={"unit": "subject"})
    agent = agent_of()
    with pytest.raises(PrivacyError, match="no person can be protected as a whole"):
        agent.train(plan, 1, np.zeros(10_659, np.float32))
