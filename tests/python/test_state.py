"""Sessions that outlive the one-process program: `--state-dir`."""
