"""A zoo: encoders built from a declarative list, clean and backdoored, each measured and with its truth attached."""
