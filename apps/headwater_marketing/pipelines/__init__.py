"""Tasks on a company's own tables."""
