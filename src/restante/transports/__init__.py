"""Ways to collect, each one file, none importing another. A transport never decides about delivery."""
