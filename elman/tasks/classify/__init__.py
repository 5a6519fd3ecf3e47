"""Sequences, texts, sounds and pictures to labels."""
