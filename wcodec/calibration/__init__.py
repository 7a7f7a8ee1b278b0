"""Statistics of what a model's layers are given, and of how much their outputs matter (spec/guide/calibration.md)."""
