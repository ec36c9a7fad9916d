"""The installed conditions: entry points of the group `cnctl.conditions`.

Names come from package metadata, so listing them imports no plugin. A plugin is imported when its
condition is used, and a broken plugin affects no other.
"""

from cnctl.registry.entries import (
    OWN_DISTRIBUTION,
    UnknownCondition,
    condition_names,
    find_entry,
)
from cnctl.registry.get import get_condition
from cnctl.registry.load import load_entry
from cnctl.registry.look import list_conditions, look_at
from cnctl.registry.metadata import Entry
from cnctl.registry.misfit import misfit

__all__ = [
    "OWN_DISTRIBUTION",
    "Entry",
    "UnknownCondition",
    "condition_names",
    "find_entry",
    "get_condition",
    "list_conditions",
    "load_entry",
    "look_at",
    "misfit",
]
