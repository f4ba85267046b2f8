"""Made-up loads are what they say and stay what they were, so that what a scaler costs on them can be compared."""

from __future__ import annotations

import numpy as np
import pytest

from bench.strangers import DAYS, KINDS, WINDOW_S, Kind, windows

A_DAY = 86_400 // WINDOW_S
A_WEEK = {
    "smooth: many chats": (32_297_935, 67.9952),
    "bursty: few clients, quiet nights": (7_821_026, 13.8319),
    "batches beside chats": (15_486_516, 22.2819),
    "small: three requests a second": (1_635_268, 7.6654),
}
"""Requests, and the sum of the shapes of who sends on the fifth day at four: figures of another draw are of another
load."""

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@each_kind
def test_a_made_up_load_is_the_one_that_was_measured_and_its_clients_add_up(kind: Kind) -> None:
    made = windows(kind)
    requests, shapes = A_WEEK[kind.name]
    assert made.totals().sum() == requests
    assert sum(client.shape for client in made.clients[4 * A_DAY + 24]) == pytest.approx(shapes, abs=1e-4)
    assert len(made.clients) == DAYS * A_DAY
    assert [sum(client.rate_rps for client in clients) for clients in made.clients] == pytest.approx(made.rate_rps)
    assert {client.weibull for client in made.clients[0][: kind.clients]} == {kind.weibull}


@each_kind
def test_nights_days_and_weekends_are_as_told_and_batches_come_and_go(kind: Kind) -> None:
    made = windows(kind)
    senders = {len(clients) for clients in made.clients}
    chats = np.array([sum(client.rate_rps for client in clients[: kind.clients]) for clients in made.clients])
    by_hour = chats[: 5 * A_DAY].reshape(5, 24, -1).mean(axis=(0, 2))
    assert by_hour[4] == pytest.approx(kind.night_rps, rel=0.25)
    assert by_hour[16] == pytest.approx(kind.day_rps, rel=0.25)
    assert by_hour.argmin() in range(2, 7)
    assert chats[5 * A_DAY :].mean() / by_hour.mean() == pytest.approx(kind.weekend, rel=0.2)
    assert senders == set(range(kind.clients, kind.clients + len(kind.batches) + 1))
