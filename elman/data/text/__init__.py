"""Texts, their units, and what is labelled, tagged or paired of them."""
