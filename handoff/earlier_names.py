"""Brokers by the names that the first system of this kind gave them, in `ML_APP_BROKER`."""

from __future__ import annotations

from collections.abc import Mapping

from handoff.contracts.errors import SettingsInvalid

BROKER_VARIABLE = "ML_APP_BROKER"
PROJECT_VARIABLE = "GOOGLE_CLOUD_PROJECT"
SERVERS_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"


def broker_url(environment: Mapping[str, str]) -> str | None:
    """The broker URL that such a name stands for; None without one.

    Raises: SettingsInvalid: another name, or a project that is not said
    """
    match environment.get(BROKER_VARIABLE):
        case None | "":
            return None
        case "google-pubsub":
            project = environment.get(PROJECT_VARIABLE)
            if not project:
                raise SettingsInvalid(
                    f"{BROKER_VARIABLE} is google-pubsub, but {PROJECT_VARIABLE} names no project; set it, or "
                    "FASHION_BROKER=pubsub://PROJECT instead."
                )
            return f"pubsub://{project}"
        case "apache-kafka":
            return f"kafka://{environment.get(SERVERS_VARIABLE) or 'localhost:9092'}"
        case name:
            raise SettingsInvalid(
                f"{BROKER_VARIABLE} is {name!r}; use google-pubsub or apache-kafka, or name the broker's URL in "
                "FASHION_BROKER."
            )
