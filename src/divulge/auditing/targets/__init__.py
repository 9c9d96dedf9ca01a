"""Targets: what is audited, in every form a person may have it."""

from divulge.auditing.targets.base import Target
from divulge.auditing.targets.endpoint import Endpoint
from divulge.auditing.targets.forms import as_target
from divulge.auditing.targets.loading import load_model, load_module
from divulge.auditing.targets.tables import Table, load_table, table_target

__all__ = ["Endpoint", "Table", "Target", "as_target", "load_model", "load_module", "load_table", "table_target"]
