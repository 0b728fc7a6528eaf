"""The catalogue of faults: data, read by stackspec.fault_injection. Each file is a kind, each entry a fault."""
