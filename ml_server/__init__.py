"""The ML service: workers that compete on one subscription and classify what clients upload."""
