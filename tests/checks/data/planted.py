"""Tables with one fault each, and the table without it."""

import numpy as np
import pandas as pd


def patients(rows=2000, seed=0):
    """A table with what is legitimate: a skewed and a zero-inflated column, a rare flag, honest gaps, an id, a date."""
    g = np.random.default_rng(seed)
    age = g.integers(18, 90, rows)
    pressure = np.round(g.normal(118 + 0.3 * (age - 50), 12, rows), 1)
    height = np.round(g.normal(170, 9, rows), 1)
    risk = 0.09 * (age - 50) + 0.06 * (pressure - 120)
    frame = pd.DataFrame(
        {
            "patient_id": [f"P{100000 + 7 * i + seed}" for i in range(rows)],
            "admitted_on": pd.Timestamp("2024-01-01") + pd.to_timedelta(g.integers(0, 300, rows), unit="D"),
            "age": age,
            "pressure": pressure,
            "height": height,
            "temperature": np.round(g.normal(36.9, 0.4, rows), 2),
            "weight_change": np.round(g.normal(0, 2, rows), 1),
            "visits": g.poisson(1.2, rows),
            "cost": np.where(g.random(rows) < 0.3, 0.0, np.round(g.lognormal(5, 1, rows), 2)),
            "income": np.round(g.lognormal(10, 0.5, rows), -2),
            "pacemaker": (g.random(rows) < 0.01).astype(int),
            "ward": g.choice(["north", "south", "east", "west"], rows),
            "allergy": g.choice(["none", "pollen", "nuts"], rows, p=[0.7, 0.2, 0.1]),
            "outcome": (risk + g.logistic(0, 0.5, rows) > 0).astype(int),
        }
    )
    frame.loc[g.choice(rows, rows // 50, replace=False), "income"] = np.nan
    return frame


def splits(seed=0):
    return {"train": patients(2000, seed), "test": patients(700, seed + 1000)}


def shuffled(frame, seed=0):
    return frame.sample(frac=1, random_state=seed, ignore_index=True)
