"""The fit behind the twin's coefficients finds what made a table, and keeps out what it says it keeps out."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from bench.calibration import Table, errors, fit, held_out, quantile
from connectors.twin.coefficients import Coefficients
from connectors.twin.profiles import PROFILES

CELLS = [(p, 1) for p in (128, 256, 512, 1024, 2048, 4096, 8192)] + [(512, b) for b in (2, 4, 8, 16, 32, 64)]


def table(made: Coefficients) -> Table:
    """What a machine with these coefficients would measure; one cell has more rows than the others."""
    rows = [(p, b, o) for p, b in CELLS for o in ((128, 512, 4096) if (p, b) == (512, 1) else (128,))]
    times = [(made.prefill_ms(p * b, b * p * p / 2), made.decode_ms(b, b * (p + o // 2))) for p, b, o in rows]
    columns = np.array([(*row, *took) for row, took in zip(rows, times, strict=True)], dtype=np.float64).T
    return Table(*columns)


@pytest.mark.parametrize("name", PROFILES)
def test_the_coefficients_that_made_a_table_are_found_again(name: str) -> None:
    made = PROFILES[name].coefficients
    found = fit(table(made))
    assert asdict(found) == pytest.approx(asdict(made), rel=0.02, abs=1e-6)
    prefill, decode = errors(found, table(made))
    assert max(prefill.max(), decode.max()) < 1e-3


def test_a_term_that_would_come_out_below_zero_is_left_out() -> None:
    made = PROFILES["llama2-70b/h100-80gb/tp4"].coefficients
    shrinking = replace(made, prefill_per_pair_ms=-1e-7, decode_per_kv_token_ms=-1e-6)
    found = fit(table(shrinking))
    assert found.prefill_per_pair_ms == found.decode_per_kv_token_ms == 0.0


def test_each_cell_is_kept_out_once_with_all_its_rows() -> None:
    made = PROFILES["llama2-70b/h100-80gb/tp4"].coefficients
    measured = table(made)
    odd = measured.cell == 512 * 1000 + 16
    spoilt = replace(measured, prefill_ms=np.where(odd, measured.prefill_ms * 3, measured.prefill_ms))
    folds = list(held_out(spoilt))
    assert sorted(len(rows.prompt) for rows, _ in folds) == [1] * 12 + [3]
    for rows, found in folds:
        blind = errors(found, rows)[0].max()
        if rows.batch[0] == 16:
            assert blind == pytest.approx(2 / 3, rel=0.01), "the fit has not seen it, so it tells what it should be"


def test_a_quantile_of_weighted_errors_counts_weights() -> None:
    values, weights = np.array([0.3, 0.1, 0.2]), np.array([1.0, 8.0, 1.0])
    assert [quantile(values, weights, q) for q in (0.5, 0.8, 0.9, 1.0)] == [0.1, 0.1, 0.2, 0.3]
