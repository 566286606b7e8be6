"""What is measured: continuations under steering, what ablation costs, and methods that need no SAE."""
