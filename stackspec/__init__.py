"""The engine: steps declare the desired state; the engine plans, checks and applies it on many nodes in parallel."""
