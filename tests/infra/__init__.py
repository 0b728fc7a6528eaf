"""What a deployed site is on its nodes."""
