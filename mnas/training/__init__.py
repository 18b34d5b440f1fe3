"""Training networks and supernets."""
