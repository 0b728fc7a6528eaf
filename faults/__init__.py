"""The catalogue of faults: data, read by stackspec.fault. Each file is a kind; each entry breaks one thing."""
