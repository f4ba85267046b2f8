"""Made-up loads are what they say, so that what a scaler costs on them can be compared next year."""

from __future__ import annotations

import numpy as np
import pytest

from bench.strangers import DAYS, KINDS, WINDOW_S, Kind, windows

A_DAY = 86_400 // WINDOW_S


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_made_up_load_is_the_same_each_time_and_its_clients_add_up(kind: Kind) -> None:
    made, again = windows(kind), windows(kind)
    assert made.clients == again.clients
    assert len(made.clients) == DAYS * A_DAY
    assert [sum(client.rate_rps for client in clients) for clients in made.clients] == pytest.approx(made.rate_rps)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_nights_and_days_are_as_told_and_batches_come_and_go(kind: Kind) -> None:
    made = windows(kind)
    senders = np.array([len(clients) for clients in made.clients])
    chats = np.array([sum(client.rate_rps for client in clients[: kind.clients]) for clients in made.clients])
    by_hour = chats[: 5 * A_DAY].reshape(5, 24, -1).mean(axis=(0, 2))
    assert by_hour[4] == pytest.approx(kind.night_rps, rel=0.25)
    assert by_hour[16] == pytest.approx(kind.day_rps, rel=0.25)
    assert by_hour.argmin() in range(2, 7)
    assert set(senders) == set(range(kind.clients, kind.clients + len(kind.batches) + 1))
