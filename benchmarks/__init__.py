"""Slipway's own speed, measured beside what people would do without it."""
