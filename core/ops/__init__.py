"""Small numeric functions, each with a closed form or another library as its test."""
