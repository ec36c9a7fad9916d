"""What a base predicts, which a ControlNet that was trained beside it goes with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RECORDED = "prediction"
"""The key in the description of a ControlNet."""
WORDS = {"epsilon": "the noise", "v_prediction": "v", "flow": "a flow"}


def misfit(description: Mapping[str, Any], prediction: str) -> str:
    """One sentence where a ControlNet's base predicts something else than this one; else "".

    prediction: as `Process.prediction`; "" where it is not known.
    """
    trained = description.get(RECORDED)
    if not trained or not prediction or trained == prediction:
        return ""
    return (
        f"it was trained for a base that predicts {WORDS.get(str(trained), trained)}, and this one "
        f"predicts {WORDS.get(prediction, prediction)}: control may be weak or wrong"
    )
