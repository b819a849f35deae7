"""From evidence to a verdict: what clean encoders show, and one rule that holds a suspect against them."""
