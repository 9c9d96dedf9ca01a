"""What protects the users of a federated recommender, one defense per file."""

from divulge.defenses.recommenders.base import BasketDefense
from divulge.registry import Registry

BASKET_DEFENSES: Registry[BasketDefense] = Registry("basket-defenses", __name__, BasketDefense)

__all__ = ["BASKET_DEFENSES", "BasketDefense"]
