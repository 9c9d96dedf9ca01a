"""Federated rounds between real processes by Flower, with a server that keeps what it receives and attacks it."""

from divulge.auditing.flower.attack import Exposed, attack_run
from divulge.auditing.flower.deployment import Deployment
from divulge.auditing.flower.run import run_flower
from divulge.auditing.flower.saved import load_captures, save_captures

__all__ = ["Deployment", "Exposed", "attack_run", "load_captures", "run_flower", "save_captures"]
