"""Who is killed when: drawn beforehand from a seed, spread over the requests."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Literal

from chaos.service import Service

Victim = Literal["worker", "client", "broker"]

# Of a hundred kills; a broker that forgets everything is the hardest for a client, and takes seconds to start.
CLIENT_KILLS_PERCENT = 8
BROKER_KILLS_PERCENT = 4

# The kills are over when so much is answered, so that the last of them still meet requests under way.
LAST_KILL_AT = 0.95
LONGEST_WAIT_S = 60.0
POLL_S = 0.05


def drawn_victims(kill_count: int, *, broker_can_be_killed: bool, chance: random.Random) -> list[Victim]:
    """Who is killed, in order: mostly workers, at least one client, and one broker where there is one to kill."""
    clients = max(1, kill_count * CLIENT_KILLS_PERCENT // 100)
    brokers = max(1, kill_count * BROKER_KILLS_PERCENT // 100) if broker_can_be_killed else 0
    victims: list[Victim] = ["client"] * min(clients, kill_count)
    victims += ["broker"] * min(brokers, kill_count - len(victims))
    victims += ["worker"] * (kill_count - len(victims))
    chance.shuffle(victims)
    return victims


def kill_all(
    service: Service,
    victims: list[Victim],
    *,
    answered_count: Callable[[], int],
    request_count: int,
    chance: random.Random,
) -> Counter[Victim]:
    """Kill one after the other as requests are answered; how many of each.

    Where nothing is answered for long, the next kill comes all the same: a service that stands still is attacked, too.
    """
    killed: Counter[Victim] = Counter()
    for number, victim in enumerate(victims, start=1):
        due = request_count * LAST_KILL_AT * number / len(victims)
        deadline = time.monotonic() + LONGEST_WAIT_S
        while answered_count() < due and time.monotonic() < deadline:
            service.tend()
            time.sleep(POLL_S)
        match victim:
            case "worker":
                service.kill_worker(chance.randrange(len(service.workers)))
            case "client":
                service.kill_client()
            case "broker":
                service.kill_broker()
        killed[victim] += 1
    return killed
