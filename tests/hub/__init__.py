"""A server that speaks what of ModelScope's hub the real SDK uses."""
