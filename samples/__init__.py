"""The demo's encoders and images: real photographs, a really trained and really backdoored encoder, and their
recipe."""
