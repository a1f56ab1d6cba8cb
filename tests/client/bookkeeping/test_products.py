"""Products of many small matrices and sums by sample, on every route, against torch's own."""

import pytest
import torch

from client.bookkeeping import group_norms, products


@pytest.mark.parametrize("small", [1, 5 * 7 * 96, 5 * 7 * 130, 1 << 30])
@pytest.mark.parametrize("form", [(5, 7, 300), (5, 7, 96), (1, 1, 1), (5, 0, 3), (3, 4, 0)])
def test_a_product_is_the_same_in_parts(small, form, monkeypatch):
    monkeypatch.setattr(products, "SMALL", small)
    generator = torch.Generator().manual_seed(0)
    fan_out, inner, columns = form
    a = torch.randn(4, inner, fan_out, generator=generator, dtype=torch.float64).transpose(1, 2)
    b = torch.randn(4, inner, columns, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(products.batched(a, b), torch.bmm(a, b), rtol=1e-13, atol=1e-13)
    out = torch.full((4, fan_out, columns), torch.nan, dtype=torch.float64)
    assert products.batched(a, b, out) is out
    torch.testing.assert_close(out, torch.bmm(a, b), rtol=1e-13, atol=1e-13)


def test_what_is_not_finite_stays_in_its_own_product():
    a, b = torch.ones(3, 2, 4), torch.ones(3, 4, 5)
    a[1, 0, 0], b[1, 0, 0] = torch.inf, 0.0
    found = products.batched(a, b)
    assert torch.equal(found[[0, 2]], torch.full((2, 2, 5), 4.0))
    assert not torch.isfinite(found[1]).all()


@pytest.mark.parametrize("cached", [0, 1 << 30])
@pytest.mark.parametrize("form", [(2, 9, 5), (2, 48, 16), (1, 64, 2048), (2, 0, 3)])
def test_sums_over_places(cached, form, monkeypatch):
    monkeypatch.setattr(group_norms, "CACHED", cached)
    a, b = torch.randn(2, *form, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(group_norms.dots(a, b), (a * b).sum(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", [9, products.BLOCK, 300 * products.BLOCK + 17])
def test_squared_norms_of_long_rows_keep_their_digits(length):
    rows = torch.randn(3, length, generator=torch.Generator().manual_seed(0))
    rows[:, : length // 100 + 1] *= 100  # torch's own norm of a million such numbers is short by 2e-4
    assert torch.allclose(
        products.squared_norms(rows).double(), rows.double().square().sum(1), rtol=2e-6, atol=0
    )
    rows[1, -1] = torch.nan
    assert products.squared_norms(rows).isfinite().tolist() == [True, False, True]
