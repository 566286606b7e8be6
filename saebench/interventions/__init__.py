"""Interventions, which change the activation at a hook. They are listed in docs/interventions.md."""

from saebench.interventions.base import Intervention, on_texts
from saebench.interventions.spec import parse_intervention

__all__ = ["Intervention", "on_texts", "parse_intervention"]
