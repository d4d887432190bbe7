"""The Kronos architecture, its checkpoints and its inference engine."""
