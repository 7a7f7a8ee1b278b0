"""Rate control: from one target for a whole file to a setting for every tensor (spec/guide/targets.md)."""
