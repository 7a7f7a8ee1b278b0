"""Encode, decode, open, inspect, verify, diff: the only place where container, codecs, recipes and backends meet."""
