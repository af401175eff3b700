"""Limits of the model API: how much an organization, a project, a key or a model may use, and which models."""
