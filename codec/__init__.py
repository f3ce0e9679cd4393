"""Bits: containers, packing and entropy coding. numpy only."""
