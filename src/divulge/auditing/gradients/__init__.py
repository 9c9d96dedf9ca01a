"""What an attacker makes of the gradients that a client shares: the attempt, its scores, and its step of a run."""

from divulge.auditing.gradients.attempt import ADVERSARIES, Adversary, Attempt, Outcome, attempt
from divulge.auditing.gradients.step import Inversion, invert
from divulge.auditing.gradients.victims import Victims, choose

__all__ = ["ADVERSARIES", "Adversary", "Attempt", "Inversion", "Outcome", "Victims", "attempt", "choose", "invert"]
