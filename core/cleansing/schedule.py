"""How many clusters are left in each round of the search."""

from __future__ import annotations


def clusters_per_round(clusters: int, drop_fraction: float) -> tuple[int, ...]:
    """The number of clusters visited in each round; the last round is the first that would drop none.

    PoisonCAM says that "all clusters are removed" and not when; PatchSearch's code stops where ``drop_fraction`` of
    what is left rounds down to nothing. With 1000 clusters and 0.25: 23 rounds, 4,027 visits.
    """
    rounds = [clusters]
    while (dropped := int(drop_fraction * rounds[-1])) > 0:
        rounds.append(rounds[-1] - dropped)
    return tuple(rounds)
