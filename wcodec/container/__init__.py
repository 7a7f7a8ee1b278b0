"""Bytes and records: the layout of a `.wcodec` file and of the safetensors files around it (spec/container.md)."""
