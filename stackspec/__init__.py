"""The engine: steps declare, the engine plans, checks and applies, on many nodes at once."""
