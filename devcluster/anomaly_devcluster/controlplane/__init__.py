"""The two control planes that a cluster can have."""
