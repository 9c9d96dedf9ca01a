"""Federated recommenders: which items were in the baskets behind this gradient?"""

from divulge.attacks.recommenders.base import Baskets, RecommenderAttack

__all__ = ["Baskets", "RecommenderAttack"]
