"""The same harness on an NVIDIA GPU: its cases, its clocks, and how it is measured and told there."""
