"""Whose threads run a kernel, and which part of its work each of them does."""
