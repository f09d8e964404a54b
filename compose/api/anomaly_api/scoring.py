"""The model: how far a transaction is from what its sender usually does.

Small and deterministic: the same transaction and the same profile always give the same prediction. A profile holds
running statistics of ln(1 + value) and ln(1 + gas price), because both are spread over many orders of magnitude.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from anomaly_api.schemas import Prediction, Severity, Transaction

VERSION = "zscore-1"
THRESHOLD = 0.5
FEATURES = ("value_z", "gas_price_z", "gas_excess", "night", "self_transfer")

# What is known of a sender never seen: as much as PRIOR_N transactions of an ordinary account.
PRIOR_N = 5.0
PRIOR_MEAN = 1.0
PRIOR_VAR = 2.25
PLAIN_TRANSFER_GAS = 21_000
_INTERCEPT = -4.0


class Profile(NamedTuple):
    """n transactions seen; mean and m2 (sum of squared deviations) of ln(1+value) and ln(1+gas price)."""

    n: int
    value_mean: float
    value_m2: float
    gas_price_mean: float
    gas_price_m2: float


UNKNOWN = Profile(0, 0.0, 0.0, 0.0, 0.0)


def score(transaction: Transaction, profile: Profile) -> float:
    """Probability 0..1 that the transaction is an anomaly: a logistic function of the features."""
    n = profile.n
    mean = (n * profile.value_mean + PRIOR_N * PRIOR_MEAN) / (n + PRIOR_N)
    variance = (profile.value_m2 + PRIOR_N * PRIOR_VAR) / (n + PRIOR_N)
    value_z = (math.log1p(transaction.value) - mean) / math.sqrt(variance)
    # Gas prices move with the market, so there is no prior for them: a few transactions must be known.
    gas_price_z = 0.0
    if n >= PRIOR_N:
        spread = math.sqrt(profile.gas_price_m2 / n + 0.01)
        gas_price_z = (math.log1p(transaction.gas_price) - profile.gas_price_mean) / spread
    gas_excess = math.log10(max(transaction.gas, PLAIN_TRANSFER_GAS) / PLAIN_TRANSFER_GAS)
    logit = (
        _INTERCEPT
        + 1.6 * max(0.0, value_z)
        + 0.4 * min(8.0, abs(gas_price_z))
        + 0.3 * gas_excess
        + (0.4 if transaction.timestamp.hour < 5 else 0.0)
        + (1.5 if transaction.from_address == transaction.to_address else 0.0)
    )
    return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, logit))))


def severity(probability: float) -> Severity | None:
    if probability < THRESHOLD:
        return None
    if probability < 0.7:
        return "low"
    if probability < 0.85:
        return "medium"
    return "high" if probability < 0.95 else "critical"


def predict(transaction: Transaction, profile: Profile) -> Prediction:
    probability = score(transaction, profile)
    return Prediction(
        transaction_hash=transaction.hash,
        is_anomaly=probability >= THRESHOLD,
        confidence=round(max(probability, 1.0 - probability), 6),
        severity=severity(probability),
        from_cache=False,
        model_version=VERSION,
    )
