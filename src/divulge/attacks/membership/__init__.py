"""Membership inference: was this record in the training set?"""

from divulge.attacks.membership.base import MembershipAttack, MembershipScores, Signals, View, scaled_confidence
from divulge.attacks.membership.design import assignment

__all__ = ["MembershipAttack", "MembershipScores", "Signals", "View", "assignment", "scaled_confidence"]
