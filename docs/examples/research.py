"""A first study, as a notebook: editors that know the percent format (VS Code, Spyder, Jupytext) run it by cells."""

# %% [markdown]
# What does federation cost when sites differ more and more? Two runs on drawn faces, nobody's picture, that differ
# in one setting; the figures come from the run folders, where anything else can look them up, too.

# %%
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # leave this line out in a notebook
import matplotlib.pyplot as plt
import pandas as pd

from simulations.comparison import Comparison
from simulations.compose import composed

# %% [markdown]
# A run is words of the command line, a folder, and the systems that run in it. With the same folder it is taken up
# where it was stopped, and a finished one is not run again.

# %%
COMMON = [
    "data.options.count=400",
    "model=hog_linear",
    "partition.sites=4",
    "server.rounds=8",
    "engine.workers=1",
]


def run(name: str, *words: str) -> Path:
    """Run a federation, and the same net on all pictures in one place."""
    settings, _ = composed(
        [*COMMON, *words, f"name={name}", "baseline.systems=[pooled]", "compare.probes=false"]
    )
    comparison = Comparison(settings, Path("study", name), ["pooled", "federated"], lambda _: None)
    comparison.prepare()
    return comparison.run()


ALPHAS = (0.1, 100.0)
folders = {
    alpha: run(f"alpha-{alpha:g}", f"partition.alpha={alpha}", "server.evaluate_every=4") for alpha in ALPHAS
}

# %% [markdown]
# Every figure of every system, with its 95 % interval.

# %%
rows = []
for alpha, folder in folders.items():
    for system, figures in json.loads((folder / "summary.json").read_text())["systems"].items():
        low, high = figures["accuracy_interval"]
        rows.append({"alpha": alpha, "system": system, "accuracy": figures["accuracy"], "low": low, "high": high,
                     "worst recall": figures["worst_recall"]})  # fmt: skip
table = pd.DataFrame(rows)
table.to_csv("study/table.csv", index=False)
print(table.round(3).to_string(index=False))  # noqa: T201

# %% [markdown]
# The curves of the rounds, from `metrics.jsonl`.

# %%
figure, axes = plt.subplots(figsize=(6, 4))
for alpha, folder in folders.items():
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = pd.DataFrame(record for record in records if record["system"] == "federated")
    axes.plot(curve["round"], curve["accuracy"], marker="o", label=f"alpha {alpha:g}")
axes.set(xlabel="round", ylabel="accuracy", title="The smaller alpha, the less alike are the sites")
axes.legend()
figure.savefig("study/curves.png", dpi=100)
