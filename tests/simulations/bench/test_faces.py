from simulations.bench.faces import run


def test_the_figure_is_faces_a_second() -> None:
    figures = run()
    assert list(figures) == ["faces_per_core_second"]
    assert 50 < figures["faces_per_core_second"] < 1e6
