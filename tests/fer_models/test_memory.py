import sys

import torch

from fer_models import memory


def test_glibc_takes_the_settings_and_results_do_not_change():
    x = torch.randn(64, 64)
    before = x @ x
    assert memory.keep_freed_memory() == (sys.platform == "linux")
    assert torch.equal(x @ x, before)


def test_other_libraries_are_left_alone(monkeypatch):
    def absent(name):
        raise OSError("no C library")

    monkeypatch.setattr(memory.ctypes, "CDLL", absent)
    assert memory.keep_freed_memory() is False
