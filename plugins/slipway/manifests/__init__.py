"""From an endpoint to the Kubernetes objects that serve it: plan first, then bytes that never change."""
