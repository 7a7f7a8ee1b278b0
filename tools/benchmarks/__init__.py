"""The side-by-side benchmark behind ``tools/bench.py``; each part lives in a module of its own."""
