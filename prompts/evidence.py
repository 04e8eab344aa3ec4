"""All evidence of one feature, as far as it was collected."""

from typing import NamedTuple

from schema.evidence import Calibration, Exemplars, SteeredTexts, TokenChange, VocabularyProjection


class Evidence(NamedTuple):
    """What is known of one feature; None is evidence that was not collected."""

    exemplars: Exemplars | None = None
    vocabulary: VocabularyProjection | None = None
    token_change: TokenChange | None = None
    calibration: Calibration | None = None
    steered_texts: SteeredTexts | None = None
