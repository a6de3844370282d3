"""How often does `paired` fail functions that do the same work, and how often miss a slower one?"""
