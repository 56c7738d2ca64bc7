"""Streams of rows with known properties."""

import numpy as np


def autoregressive(count, width, *, phi, seed):
    """AR(1) with unit variance."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(count, width)) * np.sqrt(1 - phi**2)
    rows = np.empty((count, width))
    rows[0] = random.normal(size=width)
    for i in range(1, count):
        rows[i] = phi * rows[i - 1] + noise[i]
    return rows


def phases(count, width, *, seed, period=300):
    """Load that moves through phases of uneven length and level, as machines do, with noise on top."""
    random = np.random.default_rng(seed)
    levels = np.array([0.0, 2.0, 4.0, 1.0])
    ends = (np.array([0.3, 0.63, 0.87, 1.0]) * period).astype(int)
    place = np.searchsorted(ends, np.arange(count) % period, side="right")
    cycles = count // period + 1
    drawn = random.uniform(0.8, 1.2, size=(cycles, len(levels), width))
    cycle = np.arange(count) // period
    return levels[place][:, None] * drawn[cycle, place] + random.normal(scale=0.3, size=(count, width))


def score_of(rows):
    """A stand-in for a model's score that moves with the rows."""
    return np.abs(rows - rows.mean()).sum(axis=1)


def feed(detector, rows, *, batch=8, score=score_of):
    """Feed rows in batches, checking whenever one is due; return all verdicts."""
    verdicts = []
    scores = score(rows)
    for at in range(0, len(rows), batch):
        detector.add(rows[at : at + batch], scores[at : at + batch], float(at))
        if detector.due():
            verdicts.append(detector.check(float(at)))
    return verdicts
