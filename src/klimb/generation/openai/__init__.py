"""Completions from a server that speaks the OpenAI protocol."""
