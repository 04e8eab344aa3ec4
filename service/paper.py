"""What the paper's authors found, to read a report beside: success by method, in percent.

Source: the per-feature results that the authors of arXiv 2501.08319 publish with their notebook, counted by us
(`descriptions/*.csv`: 1,430 features of GPT-2 small's autoencoders, 2,288 of Llama-3.1-8B's). Their describer, writer
and judge were others, and so were their distractors, which a judge can tell from the real set without the description.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from schema.records import Method


class Success(NamedTuple):
    """Percent of features on which descriptions of a method succeed."""

    input: float
    output: float


PAPER: Mapping[str, Mapping[Method, Success]] = MappingProxyType(
    {
        "GPT-2 small": {
            "max_activating": Success(42.5, 40.7),
            "vocabulary": Success(16.4, 42.4),
            "token_change": Success(17.9, 40.1),
            "combined_vm": Success(54.8, 42.8),
            "combined_tm": Success(55.2, 45.3),
            "combined_vt": Success(20.3, 44.1),
            "combined": Success(56.7, 44.3),
            "concat": Success(34.8, 44.5),
        },
        "Llama-3.1-8B": {
            "max_activating": Success(43.3, 60.8),
            "vocabulary": Success(19.2, 56.3),
            "token_change": Success(23.3, 62.6),
            "combined_vm": Success(49.4, 57.4),
            "combined_tm": Success(51.4, 58.5),
            "combined_vt": Success(21.8, 59.1),
            "combined": Success(49.3, 61.5),
            "concat": Success(33.7, 65.6),
        },
    }
)
