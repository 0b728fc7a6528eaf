class InstrumentedList(list[object]):
    """The one class that the agent's modules name."""
