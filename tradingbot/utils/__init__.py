"""The parts that the bots and the job are made of."""
