"""How many examples property-based tests try: hypothesis's own number, or ROUNDS (`make test-full`)."""

from __future__ import annotations

import os

from hypothesis import settings

if os.environ.get("ROUNDS"):
    settings.register_profile("full", max_examples=int(os.environ["ROUNDS"]), deadline=None)
    settings.load_profile("full")
