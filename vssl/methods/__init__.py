"""METHODS: every learning objective by name, and what the training loop asks of one."""
