"""Personalised marketing copy in which every fact is right by construction."""
