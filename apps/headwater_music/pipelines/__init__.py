"""Tasks on a musician's own files: each a thin composition of the model's verbs, around what is kept."""
