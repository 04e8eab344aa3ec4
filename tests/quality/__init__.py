"""How good labels are on a real dictionary, ours against the paper's: `python -m tests.quality`, hours of two cores."""
