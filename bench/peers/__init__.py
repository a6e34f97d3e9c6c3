"""What waserver is compared with, driven on the same simulator."""
