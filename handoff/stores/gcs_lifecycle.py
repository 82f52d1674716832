"""The bucket's rule that removes old requests and results, beside the rules that others set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import google.api_core.exceptions as api
from google.api_core.retry import Retry
from google.cloud import storage

from handoff.contracts.objects import REQUESTS_FOLDER, RESULTS_FOLDER
from handoff.contracts.topology import DAY_S

# Others may change the bucket between our look and our change; each time we look again.
ATTEMPTS = 3

Rule = Mapping[str, Any]


def set_retention(
    bucket: storage.Bucket, *, prefix: str, retention_s: float, retry: Retry, timeout: tuple[float, float]
) -> list[str]:
    """Have the bucket remove what is older, and nothing where `retention_s` is 0; a sentence when something changed.

    Where we may not, the sentence says what to ask an administrator for.

    Raises: GoogleAPIError
    """
    prefixes = [f"{prefix}{folder}/" for folder in (REQUESTS_FOLDER, RESULTS_FOLDER)]
    # Whole days are all it takes; rounded up, so that no object goes before its message.
    wanted = [_rule(prefixes, age_days=math.ceil(retention_s / DAY_S))] if retention_s else []
    for attempts_left in reversed(range(ATTEMPTS)):
        if _ours(bucket, prefixes) == wanted:
            break
        try:
            return [_change(bucket, prefixes, wanted, retry=retry, timeout=timeout)]
        except api.PreconditionFailed:
            if not attempts_left:
                raise
            bucket.reload(retry=retry, timeout=timeout)
    return []


def _change(
    bucket: storage.Bucket, prefixes: list[str], wanted: list[Rule], *, retry: Retry, timeout: tuple[float, float]
) -> str:
    where = f"below {' and '.join(prefixes)} in bucket {bucket.name}"
    bucket.lifecycle_rules = [rule for rule in _rules(bucket) if not _is_ours(rule, prefixes)] + wanted
    try:
        bucket.patch(if_metageneration_match=bucket.metageneration, retry=retry, timeout=timeout)
    except (api.Forbidden, api.MethodNotAllowed, api.MethodNotImplemented):
        return f"Nothing removes old objects {where}: a lifecycle rule needs storage.buckets.update; ask for it."
    if _ours(bucket, prefixes) != wanted:
        return f"Nothing removes old objects {where}: this server ignores lifecycle rules."
    if not wanted:
        return f"Objects {where} are kept for ever now."
    return f"Objects {where} are removed after {wanted[0]['condition']['age']} days."


def _rule(prefixes: list[str], *, age_days: int) -> Rule:
    return {"action": {"type": "Delete"}, "condition": {"age": age_days, "matchesPrefix": prefixes}}


def _rules(bucket: storage.Bucket) -> list[Rule]:
    # Not `bucket.lifecycle_rules`, which leaves out the kinds that the SDK does not know: we would remove them.
    rules: list[Rule] = bucket._properties.get("lifecycle", {}).get("rule", [])  # noqa: SLF001
    return rules


def _ours(bucket: storage.Bucket, prefixes: list[str]) -> list[Rule]:
    return [_rule(prefixes, age_days=rule["condition"]["age"]) for rule in _rules(bucket) if _is_ours(rule, prefixes)]


def _is_ours(rule: Rule, prefixes: list[str]) -> bool:
    condition = rule.get("condition", {})
    return (
        rule.get("action", {}).get("type") == "Delete"
        and set(condition) == {"age", "matchesPrefix"}
        and sorted(condition["matchesPrefix"]) == sorted(prefixes)
    )
