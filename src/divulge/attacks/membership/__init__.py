"""Membership inference: was this record in the training set?"""

from divulge.attacks.membership.base import MembershipAttack, MembershipScores, Signals, View, scaled_confidence

__all__ = ["MembershipAttack", "MembershipScores", "Signals", "View", "scaled_confidence"]
