"""Fine-tune a checkpoint on a CPU, and say whether it helped. Not part of a running Space."""
