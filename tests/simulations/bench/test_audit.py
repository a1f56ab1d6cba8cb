from simulations.bench.audit import run


def test_the_figures_are_seconds() -> None:
    figures = run(rows=20_000)
    assert list(figures) == ["counts_audit_s", "read_million_rows_s", "read_growth_mb"]
    assert 0 < figures["counts_audit_s"] < 60
    assert 0.5 < figures["read_million_rows_s"] < 120
    assert 0 <= figures["read_growth_mb"] < 32, "memory does not grow with the rows"
