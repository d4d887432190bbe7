"""Fine-tune a checkpoint on a CPU, and test whether it improved. Not part of a running Space."""
