"""What users do with a cloud, over several services."""
