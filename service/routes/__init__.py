"""Routes: each endpoint's own few lines, and the control routes."""
