"""What an audit will cost, said before it starts: passes of the encoder, seconds on this device, memory."""
