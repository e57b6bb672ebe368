"""Plans: which passes, how far, under budgets; found by trying (docs/planning.md)."""
