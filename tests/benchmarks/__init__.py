"""What the evidence engine costs, as ratios between two sides that run one after the other: `make bench`."""
